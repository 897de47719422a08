"""What a configuration of someone else may name without being trusted: modules, functions, methods, classes that only compute.

Nothing here writes, starts a process, opens a connection, unpickles, or hands out one of these.
"""

from __future__ import annotations

import re

ALWAYS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}  # the names that MONAI gives every expression

BUILTINS = frozenset(
    "abs all any bool dict divmod enumerate filter float frozenset int isinstance len list map max min pow range reversed round set "
    "slice sorted str sum tuple zip True False None".split()
)
_PATH = "join basename dirname exists isfile isdir splitext abspath normpath realpath split relpath expanduser commonpath sep"
FUNCTIONS: dict[str, frozenset[str]] = {
    "os": frozenset([*(f"path.{name}" for name in _PATH.split()), "sep", "getcwd", "listdir", "cpu_count", "fspath"]),
    "os.path": frozenset(_PATH.split()),
    "glob": frozenset(["glob", "iglob", "escape"]),
    "json": frozenset(["loads", "load", "dumps"]),
    "pathlib": frozenset(["Path", "PurePath"]),
    "functools": frozenset(["partial", "reduce"]),
    "operator": frozenset("itemgetter add sub mul truediv floordiv mod neg not_ and_ or_ eq ne".split()),
    "copy": frozenset(["copy", "deepcopy"]),
    "collections": frozenset(["OrderedDict", "defaultdict", "Counter"]),
    "re": frozenset(["sub", "match", "search", "fullmatch", "findall", "split", "compile", "escape"]),
    "einops": frozenset(["rearrange", "reduce", "repeat"]),
}
DATA_FUNCTIONS = {"pandas": frozenset(["read_csv"])}  # in a list of data only, where a file of this machine stands for the table
WHOLE = ("math", "itertools", "scipy.ndimage", "skimage.measure", "skimage.morphology", "skimage.transform", "skimage.filters")

_SHAPES = "zeros ones full arange linspace eye concatenate stack where argmax argmin argsort sort unique clip transpose moveaxis"
_MATHS = (
    "abs sqrt exp log sum prod mean std var min max minimum maximum round floor ceil sign isnan isfinite nan_to_num logical_and "
    "logical_or logical_not any all squeeze flip roll"
)
NUMPY = frozenset(
    f"{_SHAPES} {_MATHS} array asarray ascontiguousarray stack expand_dims pi inf nan newaxis isin prod cumsum zeros_like ones_like "
    "percentile quantile median float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ single double half "
    "ndarray dtype vstack hstack dstack swapaxes flipud fliplr rot90 pad bitwise_and bitwise_or".split()
)
TORCH = frozenset(
    f"{_SHAPES} {_MATHS} tensor as_tensor from_numpy cat zeros_like ones_like full_like softmax sigmoid relu unsqueeze "
    "flatten clamp float16 float32 float64 bfloat16 half float double int8 int16 int32 int64 uint8 int long short bool device "
    "dtype Tensor Size cuda.is_available cuda.device_count backends.mps.is_available permute reshape movedim einsum bitwise_and "
    "bitwise_or".split()
)
# Where a class or function may be defined to be named, or to be built by a ``_target_``: modules with all below them.
HOMES = (
    "monai.transforms monai.networks monai.inferers monai.metrics monai.handlers monai.engines monai.optimizers monai.utils.enums "
    "torch.nn torch.optim torch.utils.data.dataset torch.utils.data.dataloader torch.utils.data.sampler ignite.metrics "
    "ignite.engine monai_advdef.networks monai_advdef.transforms monai_advdef.defenses monai_advdef.data.transforms "
    "monai_advdef.data.ct "
    "monai_advdef.data.mri monai_advdef.data.pictures monai_advdef.dicom.transforms"
).split()
APPS = re.compile(r"monai\.apps\.\w+(\.\w+)*\.(transforms|networks|inferers?|engines|handlers|interaction|metrics)(\.|$)")
HELPERS = (
    frozenset(["monai_advdef.audit.torchscript.scripted"])
    | frozenset("monai.utils." + name for name in "set_determinism first ensure_tuple ensure_tuple_rep ensure_list".split())
    | frozenset(
        "monai.data." + name
        for name in (
            "Dataset CacheDataset SmartCacheDataset DataLoader ThreadDataLoader NPZDictItemDataset MetaTensor "
            "load_decathlon_datalist "
            "load_decathlon_properties partition_dataset partition_dataset_classes select_cross_validation_folds list_data_collate "
            "decollate_batch pad_list_data_collate ITKReader NibabelReader NumpyReader PILReader NrrdReader PydicomReader "
            "NibabelGPUReader"
        ).split()
    )
)
# of what these homes hold, what writes, fetches, starts something or hands out what is not its own
ACTS = re.compile(
    r"sav(e|er|ing)(?![a-z])|saveima|writ|download|export|persist|lmdb|pickl|onnx|trt|mlflow|clearml|tensorboard|hub|spawn|register|"
    r"remote",
    re.I,
)
BY_TARGET_ONLY = re.compile(r"LoadImage|SaveImage|PatchInferer")  # they look classes up by name, which only a definition lets see

METHODS = frozenset(
    # text and paths
    "replace split rsplit join strip lstrip rstrip lower upper startswith endswith removeprefix removesuffix zfill find count index "
    "read_text parent parents name stem suffix glob rglob exists is_file is_dir joinpath as_posix resolve "
    # lists and dictionaries
    "get items keys values copy "
    # arrays, tensors, networks
    "to cpu cuda float half double int long bool type astype shape dtype ndim size numel item tolist numpy clone detach device "
    "str loc iloc columns sum mean std min max any all argmax argmin reshape view permute transpose squeeze unsqueeze "
    "flatten T repeat "
    "expand flip clamp "
    "clip round trunc abs softmax sigmoid value read".split()
)
