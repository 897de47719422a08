"""Living beside other processes and on other people's disks: owners, locks, whole files, signals."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from monai_advdef.neighbours import (
    Disturbed,
    OwnedLines,
    Ownership,
    Process,
    Stopped,
    alone,
    cannot_write,
    check_writable,
    clear_leftovers,
    locks,
    me,
    stoppable,
    whole,
)
from monai_advdef.neighbours.processes import from_token


def ended() -> Process:
    """A process of this machine that has ended, by the number and start that it had."""
    script = "from monai_advdef.neighbours import me; import json; print(json.dumps(vars(me())))"
    return Process(**json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout))


# -- processes


def test_a_process_is_known_by_host_number_and_start():
    own, gone = me(), ended()
    assert own.alive() is True and gone.alive() is False and own == me()
    assert Process(own.host, own.pid, gone.started).alive() is False  # the number was given again
    assert Process("elsewhere", own.pid, own.started).alive() is None
    assert Process(own.host, own.pid, "0badb007." + own.started.partition(".")[2]).alive() is False  # an earlier boot
    assert from_token(own.token) == own and from_token("a-strange-name") is None and from_token("") is None


def test_a_zombie_has_ended():
    child = subprocess.Popen(
        [sys.executable, "-c", "from monai_advdef.neighbours import me; print(me().started)"], stdout=subprocess.PIPE
    )
    started = child.stdout.read().decode().strip()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Process(me().host, child.pid, started).alive() is False
    child.wait()


# -- files


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / ("ä" * 120)
    with whole(path) as temporary:
        temporary.write_text("1")
    with pytest.raises(ZeroDivisionError), whole(path) as temporary:
        temporary.write_text("2")
        raise ZeroDivisionError
    assert path.read_text() == "1" and list(path.parent.iterdir()) == [path]


def test_leftovers_of_the_dead_are_cleared_and_nobody_elses(tmp_path):
    elsewhere = Process("elsewhere", 1, "0.0.0").token
    kept = [tmp_path / n for n in (f"a~{me().token}.tmp", f"b~{elsewhere}.tmp", "notes.tmp", "a~b.tmp", "x.npz")]
    dead = [tmp_path / n for n in (f"a.npz~{ended().token}.tmp", f"m.db~{ended().token}.tmp-journal", f"old~{elsewhere}.tmp")]
    for path in kept + dead:
        path.write_text("")
    os.utime(dead[-1], (0, 0))
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    clear_leftovers(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EFBIG, "free some space"),
        (errno.EROFS, "ask for the right to write there"),
        (errno.EEXIST, "a file stands where a folder is wanted: move it"),
        (errno.EIO, "choose another output folder"),
    ],
)
def test_what_cannot_be_written_is_named_with_the_remedy(tmp_path, number, told):
    error = cannot_write(tmp_path / "x", OSError(number, os.strerror(number)), "the card")
    assert error.errno == number and error.filename == str(tmp_path / "x")
    assert told in str(error) and os.strerror(number) in str(error) and "choose another output folder" in str(error)


def test_folders_are_tried_by_the_option_that_named_them(tmp_path):
    check_writable(output_dir=tmp_path / "a" / "b", ckpt_dir=None)
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"cannot write into ckpt_dir .*a file stands where a folder is wanted: move it.*file"):
            check_writable(ckpt_dir=folder)
    with pytest.raises(OSError, match="cannot write into output_dir .*nowhere"):
        check_writable(output_dir="/proc/nowhere")


# -- locks


def test_an_owner_that_cannot_be_written_leaves_no_lock(tmp_path):
    (tmp_path / "cell.owner.json").mkdir()
    owned = Ownership(tmp_path / "cell", "the cell")
    with pytest.raises(IsADirectoryError):
        owned.take()
    assert [p.name for p in tmp_path.iterdir()] == ["cell.owner.json"]
    (tmp_path / "cell.owner.json").rmdir()
    owned.take()
    owned.release()
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, time
from monai_advdef.neighbours import Ownership
owned = Ownership(sys.argv[1], "the cell")
owned.take()
print("taken", flush=True)
time.sleep(float(sys.argv[2]))
owned.release()
"""


def holder(path, seconds):
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "taken\n"
    return child


def test_who_waits_says_for_whom_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", (0.1, 0.5))
    child = holder(tmp_path / "c", 1.0)
    owned = Ownership(tmp_path / "c", "the cell")
    with pytest.warns(UserWarning, match=rf"the cell is being written by process {child.pid} on {me().host} since .*waiting"):
        owned.take()
    assert child.wait() == 0 and json.loads((tmp_path / "c.owner.json").read_text())["pid"] == os.getpid()
    owned.release()
    owned.release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_was_killed_is_followed_at_once(tmp_path):
    child = holder(tmp_path / "c", 60)
    child.kill()
    child.wait()
    assert {p.name for p in tmp_path.iterdir()} == {"c.lock", "c.owner.json"}
    start = time.monotonic()
    owned = Ownership(tmp_path / "c", "the cell")
    owned.take()
    assert time.monotonic() - start < 0.9
    owned.release()
    assert list(tmp_path.iterdir()) == []


def test_this_process_does_not_wait_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", (0.1, 0.5))
    first = Ownership(tmp_path / "c", "the cell")
    first.take()
    with pytest.raises(RuntimeError, match=rf"the cell is being written by this very process \({os.getpid()} on .*close or release"):
        Ownership(tmp_path / "c", "the cell").take()
    del first  # forgotten, not released
    Ownership(tmp_path / "c", "the cell").take()


def test_alone_lets_one_in_at_a_time_and_leaves_no_file(tmp_path):
    inside, most = [0], [0]

    def work():
        for _ in range(20):
            with alone(tmp_path / "x.lock", timeout=60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and list(tmp_path.iterdir()) == []
    with alone(tmp_path / "x.lock", timeout=1), pytest.raises(TimeoutError, match="x.lock"):
        with alone(tmp_path / "x.lock", timeout=0.1):
            pass


def test_a_file_system_without_locks_is_served_by_files(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    for _ in range(2):
        owned = Ownership(tmp_path / "c", "the cell")
        owned.take()
        with pytest.raises(TimeoutError), alone(tmp_path / "c.lock", timeout=0.2):
            pass
        owned.release()
        assert list(tmp_path.iterdir()) == []


def test_lines_that_somebody_changed_are_refused(tmp_path):
    path = tmp_path / "part"
    for change, told in (
        (lambda: path.write_text("1\n3\n"), "does not hold the 4 bytes"),
        (lambda: path.write_text("1\n"), "does not hold the 4 bytes"),
        (path.unlink, "does not hold the 4 bytes"),
    ):
        lines = OwnedLines(path, "owned", "it")
        lines.append("1\n2\n")
        change()
        with pytest.raises(Disturbed, match=told):
            list(lines.lines())
        lines.release()
    lines = OwnedLines(path, "owned", "it")
    lines.append("1\n")
    path.write_text("")
    with pytest.raises(Disturbed, match="holds 0 bytes where 2 were written"):
        lines.append("2\n")
    path.unlink()
    with pytest.raises(Disturbed, match="is gone"):
        lines.append("2\n")


# -- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_with_words_and_its_exit_code(capfd, number):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(Stopped) as stop, stoppable("all is kept"):
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert str(stop.value) == f"stopped by {number.name}; all is kept"
        assert stop.value.code == 128 + number and signal.getsignal(number) is signal.SIG_DFL
        assert f"stopped by {number.name}; all is kept" in capfd.readouterr().err
    finally:
        signal.signal(number, before)


def test_a_second_signal_does_not_disturb_what_the_first_one_closes():
    closed, before = [], signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(Stopped), stoppable(""):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                closed.append(1)
        assert closed == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_others_handle_or_ignore_stays_and_other_threads_do_nothing():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1)), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(""):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard == [1]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        seen = []

        def elsewhere():
            with stoppable(""):
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen == [signal.SIG_DFL]
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
