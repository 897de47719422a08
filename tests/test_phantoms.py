from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from monai_advdef.data import PHANTOMS, DataError, image_mask_pairs, write_phantoms, write_skin_phantoms
from monai_advdef.phantoms.fields import bend, cells, smooth_noise, strokes

SMALL = ((128, 96), (112, 96))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    write_skin_phantoms(root, cases=24, sizes=SMALL, seed=5)
    return root


def read(path):
    with Image.open(path) as file:
        return np.asarray(file)


def test_files_are_a_checked_data_set(folder):
    pairs = image_mask_pairs(folder)
    assert [pair["case"] for pair in pairs] == [f"phantom_{i:04d}" for i in range(24)]
    assert {Image.open(pair["image"]).format for pair in pairs} == {"JPEG", "PNG"}
    assert {Image.open(pair["image"]).size for pair in pairs} == set(SMALL)
    for pair in pairs:
        image, mask = read(pair["image"]), read(pair["label"])
        assert image.dtype == np.uint8 and image.shape == (*mask.shape, 3)
        assert set(np.unique(mask)) == {0, 255}
        assert ndimage.label(mask)[1] == 1
        assert (ndimage.binary_fill_holes(mask) == (mask > 0)).all()


def test_jpeg_keeps_full_chroma(folder):
    with Image.open(folder / "images" / "phantom_0000.jpg") as file:
        assert {component[1:3] for component in file.layer} == {(1, 1)}


def test_default_sizes_are_varied_photographs(tmp_path):
    (path, *_) = write_skin_phantoms(tmp_path / "new", cases=1)
    assert min(Image.open(path).size) >= 256


def test_cases_vary_in_lesion_size_place_and_colour(folder):
    pairs = image_mask_pairs(folder)
    pictures = [(read(pair["image"]).astype(float), read(pair["label"]) > 0) for pair in pairs]
    fractions = np.array([mask.mean() for _, mask in pictures])
    assert fractions.min() < 0.15 and fractions.max() > 0.35
    assert (fractions > 0.005).all() and (fractions < 0.95).all()
    skin = np.array([image[~mask].mean(0) for image, mask in pictures])
    lesion = np.array([image[mask].mean(0) for image, mask in pictures])
    assert (skin.std(0) > 15).all() and (lesion.std(0) > 15).all()
    assert (skin.mean(0) > lesion.mean(0) + 20).all(), "a lesion is darker than the skin on the whole"
    assert skin[:, 0].mean() > skin[:, 2].mean() + 20, "skin is warmer than grey"
    centres = np.array([np.array(ndimage.center_of_mass(mask)) / mask.shape for _, mask in pictures])
    assert (centres.std(0) > 0.03).all()


def test_a_case_depends_on_seed_and_index_alone(folder, tmp_path):
    few = write_skin_phantoms(tmp_path / "few", cases=3, sizes=SMALL, seed=5)
    for path in few:
        assert path.read_bytes() == (folder / "images" / path.name).read_bytes()
        mask = f"masks/{path.stem}.png"
        assert (tmp_path / "few" / mask).read_bytes() == (folder / mask).read_bytes()
    other = write_skin_phantoms(tmp_path / "other", cases=1, sizes=SMALL, seed=6)
    assert other[0].read_bytes() != few[0].read_bytes()


def test_a_second_call_resumes_and_extends(tmp_path):
    first = write_skin_phantoms(tmp_path, cases=2, sizes=SMALL)
    kept, lost = first
    stamp, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert len(write_skin_phantoms(tmp_path, cases=3, sizes=SMALL)) == 3
    assert kept.stat().st_mtime_ns == stamp and lost.read_bytes() == content
    assert not list(tmp_path.rglob(".*")), "no partial file is left"


def test_other_phantoms_are_replaced_only_on_request(tmp_path):
    write_skin_phantoms(tmp_path, cases=3, sizes=SMALL, seed=1)
    with pytest.raises(DataError, match="overwrite=True"):
        write_skin_phantoms(tmp_path, cases=3, sizes=SMALL, seed=2)
    with pytest.raises(DataError, match="2 files beyond 2 cases"):
        write_skin_phantoms(tmp_path, cases=2, sizes=SMALL, seed=1)
    (tmp_path / "notes.txt").write_text("mine")
    write_skin_phantoms(tmp_path, cases=2, sizes=SMALL, seed=2, overwrite=True)
    assert len(image_mask_pairs(tmp_path)) == 2
    assert json.loads((tmp_path / "phantoms.json").read_text())["seed"] == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_touched(tmp_path, overwrite):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "phantom_0000.jpg").write_text("somebody's")
    with pytest.raises(DataError, match="not empty"):
        write_skin_phantoms(tmp_path, cases=1, overwrite=overwrite)
    assert (tmp_path / "images" / "phantom_0000.jpg").read_text() == "somebody's"


def test_bad_words(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'skin'"):
        write_phantoms("skim", tmp_path)
    with pytest.raises(ValueError, match="cases must be at least 1, got 0"):
        write_skin_phantoms(tmp_path, cases=0)
    with pytest.raises(ValueError, match="at least 64 pixels"):
        write_skin_phantoms(tmp_path, sizes=[(32, 32)])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        write_skin_phantoms(tmp_path / "file")
    assert PHANTOMS["skin"] is write_skin_phantoms


def test_phantoms_and_pairs_need_no_torch():
    code = "import sys, importlib.util; sys.modules['torch'] = None; import monai_advdef.phantoms.write, monai_advdef.data.pairs"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_smooth_noise_has_unit_spread_and_its_scale():
    rng = np.random.default_rng(0)
    field = smooth_noise(rng, (400, 500), 8.0)
    assert field.shape == (400, 500) and abs(field.mean()) < 0.1 and 0.85 < field.std() < 1.15
    correlation = [np.corrcoef(field[:, :-lag].ravel(), field[:, lag:].ravel())[0, 1] for lag in (1, 24)]
    assert correlation[0] > 0.9 and abs(correlation[1]) < 0.1


def test_cells_are_distances_to_one_seed_per_square():
    y, x = np.mgrid[:60, :80].astype(np.float32)
    near, border = cells(np.random.default_rng(3), y, x, 6.0)
    assert (border >= 0).all()
    for axis in (0, 1):
        assert np.abs(np.diff(near, axis=axis)).max() <= 1 / 6 + 1e-5, "a distance never jumps: no nearest seed is missed"
        assert np.abs(np.diff(border, axis=axis)).max() <= 1 / 6 + 1e-5
    assert ndimage.label(near < 0.15)[1] == pytest.approx(60 * 80 / 36, rel=0.3)


def test_strokes_cover_what_they_should():
    line = np.array([[10.0, 20.0], [90.0, 20.0]])
    cover = strokes((40, 100), [(line, 3.0, 1.0)])
    assert cover.max() == 1 and cover.sum() == pytest.approx(80 * 3, rel=0.05)
    path = bend(np.array([3.0, 4.0]), 0.0, 10.0, np.zeros(2))
    np.testing.assert_allclose(path[[0, -1]], [[3, 4], [13, 4]], atol=1e-9)
