"""What a stranger's configuration may do without being trusted: it computes, and does nothing else."""

from __future__ import annotations

import pytest

from monai_advdef.audit.trust import Impure, Missing, check_expression, check_target, imported

MODULES = imported(
    [
        "import os",
        "import os.path as osp",
        "import glob",
        "import json",
        "import pathlib",
        "import pandas as pd",
        "from scipy import ndimage",
        "from functools import partial",
        "import subprocess",
        "import sys",
        "import shutil",
        "import pickle",
        "from monai_advdef.audit.weights import load_weights",
    ]
)

PURE = [
    "list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    "[{'image': i, 'label': l} for i, l in zip(@images[-9:], @labels[-9:])]",
    "[{'label': l, **i} for i, l in zip(@images, @labels)]",
    "[x.replace('.jpg', '_seg.jpg') for x in @images]",
    "torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "@network_def.to(@device)",
    "monai.data.load_decathlon_datalist(@path, data_list_key='validation', base_dir=@dataset_dir)",
    "monai.handlers.from_engine(['pred', 'label'])",
    "monai.utils.CommonKeys.IMAGE",
    "lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))",
    "lambda x, s=@n: np.concatenate(tuple([ndimage.binary_dilation((x==_k).astype(x.dtype)).astype(float) for _k in range(s)]))",
    "json.loads(pathlib.Path(@dataset_json).read_text())['validation']",
    "json.load(open(@dataset_json))['validation']",
    "json.load(open(@dataset_json, 'r'))",
    "os.path.join(@bundle_root, 'models', 'model.pt')",
    "osp.join(@bundle_root, 'x')",
    "((@patch_size - @out_size) // 2,) * 4",
    "1.0 - float(@out_size) / float(@patch_size)",
    "[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
    "f'{@bundle_root}/models/fold{@fold}.pt'",
    "partial(torch.nn.functional.interpolate, scale_factor=2)",
    "load_weights(@arch_ckpt_path)",
    "(np.float32, np.int32)",
    "None",
]

IMPURE = [
    "os.system('touch x')",
    "os",
    "[os][0].system('x')",
    "(lambda m: m.system('x'))(os)",
    "(lambda os: os.system('x'))(1)",
    "__import__('os').system('x')",
    "eval('1')",
    "exec('1')",
    "getattr(os, 'system')('x')",
    "setattr(torch.backends.cudnn, 'benchmark', True)",
    "open('x', 'w')",
    "open(*['x', 'w'])",
    "open('x', **{'mode': 'w'})",
    "open('x', mode='a')",
    "open('x', opener=print)",
    "partial(open, mode='w')('x')",
    "list(map(open, ['x'], ['w']))",
    "torch.load('x')",
    "torch.save({}, 'x')",
    "torch.hub.load('a/b', 'c')",
    "torch.jit.load('x')",
    "torch.ops.load_library('x')",
    "torch.Tensor.tofile",
    "np.load('x', allow_pickle=True)",
    "np.save('x', 1)",
    "np.array([1]).tofile('x')",
    "np.ctypeslib.load_library('x', '.')",
    "np.f2py.os.system('x')",
    "pathlib.Path('x').write_text('y')",
    "pathlib.Path('x').unlink()",
    "pathlib.os.system('x')",
    "glob.os.system('x')",
    "json.decoder.scanner",
    "monai.bundle.download('x')",
    "monai.bundle.scripts.os.system('x')",
    "monai.utils.optional_import('os')[0].system('x')",
    "monai.utils.module.import_module('os')",
    "monai.apps.download_url('x')",
    "monai.transforms.LoadImage('os.system', 'touch x')",
    "monai.transforms.SaveImage('x')",
    "monai.transforms.io.array.locate('os.system')",
    "monai.networks.utils.save_state({}, 'x')",
    "monai.networks.nets.FlexUNetEncoderRegister().register_class('scripts.evil')",
    "monai.data.create_cross_validation_datalist([], 2, 0, 0, 'x')",
    "monai.apps.deepgrow.dataset.create_dataset([], 'x', 2)",
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 0).__globals__['os']",
    "(x := 1)",
    "'{0.__class__}'.format(1)",
    "pd.read_csv('x').to_csv('y')",
    "pd.read_csv('x').eval('@pd')",
    "pd.io.common.os.system('x')",
    "subprocess.run(['x'])",
    "sys.path.append(@bundle_root)",
    "shutil.rmtree('x')",
    "pickle.loads(b'')",
    "load_weights(@p, trust=True)",
    "load_weights(@p, *[True])",
    "partial(load_weights, trust=True)(@p)",
    "monai_advdef.audit.weights.load_weights(@p)",
    "@validate#evaluator.run()",
    "print('x')",
    "breakpoint()",
    "input()",
    "[].__add__",
    "type(@a)",
    "vars()",
    "await x",
    "yield_",
    "import os",
]


@pytest.mark.parametrize("expression", PURE)
def test_what_only_computes_passes(expression: str) -> None:
    check_expression(expression, MODULES)


@pytest.mark.parametrize("expression", IMPURE)
@pytest.mark.parametrize("data", [False, True])
def test_what_does_more_is_refused(expression: str, data: bool) -> None:
    with pytest.raises((Impure, Missing)):
        check_expression(expression, MODULES, data=data)


def test_a_table_is_read_in_a_list_of_data_alone() -> None:
    columns = "list(@dataset_dir + pd.read_csv(@dataset_dir + 'train.csv').t2)"
    check_expression(columns, MODULES, data=True)
    with pytest.raises(Impure, match="t2|read_csv"):
        check_expression(columns, MODULES)


@pytest.mark.parametrize(
    "target", ["monai.transforms.Compose", "monai.networks.nets.UNet", "torch.nn.Conv2d", "ignite.metrics.Accuracy"]
)
def test_targets_of_known_packages_pass(target: str) -> None:
    check_target(target)


@pytest.mark.parametrize(
    "target",
    "os.system builtins.eval subprocess.run scripts.net.Net torch.load torch.save torch.hub.load numpy.save monai.bundle.download "
    "monai.utils.optional_import monai.data.PersistentDataset monai.handlers.CheckpointSaver monai.transforms.SaveImaged monai.os "
    "monai.networks.nets.NoSuch monai_advdef.audit.weights.load_weights monai_advdef.data.preparation.prepare "
    "torch.utils.data.datapipes.utils.decoder.basichandlers monai.networks.trt_compiler.trt_compile".split(),
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(Impure, match=target.split(".")[-1]):
        check_target(target)
