"""Where inside a network or a defence the gradient is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.checks.subject import Subject
from monai_advdef.logits import name_of


class Trace:
    """What went into and came out of every module of one forward pass, in the order in which they finished: inner ones first."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool, list[Tensor], list[Tensor]]] = []
        self.inside: list[tuple[str, bool, list[Tensor]]] = []  # modules that have been entered and not left

    @contextmanager
    def watching(self, *parts: Any) -> Iterator[None]:
        """Watch the modules of these parts; scripted ones, which take no hooks, are passed over."""
        handles: list[Any] = []
        for part in parts:
            for name, module in part.named_modules() if isinstance(part, nn.Module) else ():
                called = f"{name_of(module)} ({name})" if name else name_of(module)
                with suppress(RuntimeError, AttributeError):
                    handles.append(module.register_forward_pre_hook(self._enter(called)))
                    handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def cut(self) -> str | None:
        """The innermost module that was given something to differentiate, with gradients on, and returned nothing of the kind, or
        never returned."""
        found = [name for name, on, given, made in self.seen if on and _wanted(given) and made and not _wanted(made)]
        return found[0] if found else self.inside[-1][0] if self.inside else None

    def swallowed(self) -> str | None:
        """The innermost module whose output has a gradient that is not 0 everywhere, and finite, while its input's is not so."""
        found = [name for name, _, given, made in self.seen if _useful(made) and _wanted(given) and not _useful(given)]
        return found[0] if found else None

    def _enter(self, name: str) -> Any:
        return lambda module, given: self.inside.append((name, torch.is_grad_enabled(), [_kept(x) for x in _tensors(given)]))

    def _leave(self, module: nn.Module, given: Any, made: Any) -> None:
        name, on, before = self.inside.pop()
        self.seen.append((name, on, before, [_kept(x) for x in _tensors(made)]))


def lost_at(subject: Subject) -> str | None:
    """The name of the module at which the gradient of the first case is cut, becomes 0 or NaN; ``None`` where it is not lost before
    the logits."""
    trace, victim = Trace(), subject.victim
    x = subject.image[:1].clone().requires_grad_()
    with victim.frozen(), trace.watching(victim.defense, victim.network), suppress(ValueError, RuntimeError):
        logits = victim(x, subject.generators()[:1] if victim.stochastic else None)
        logits.square().sum().backward()
    if x.grad is not None and _useful([x]):
        return None
    return trace.cut() or trace.swallowed() or name_of(victim.network)


def _tensors(found: Any) -> list[Tensor]:
    if isinstance(found, (tuple, list)):
        return [t for item in found for t in _tensors(item)]
    return [found] if isinstance(found, Tensor) else []


def _kept(x: Tensor) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        x.retain_grad()
    return x


def _wanted(tensors: list[Tensor]) -> bool:
    return any(t.requires_grad for t in tensors)


def _useful(tensors: list[Tensor]) -> bool:
    found = [t.grad for t in tensors if t.requires_grad and t.grad is not None]
    return any(bool((g != 0).any()) for g in found) and all(bool(torch.isfinite(g).all()) for g in found)
