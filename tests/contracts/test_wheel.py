"""The wheel installs one package, which runs outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from app.version import VERSION

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_one_package_and_runs(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
    assert tops == {"drgero", f"drgero-{VERSION}.dist-info"}
    # The dependencies come from this environment, the product from the wheel alone.
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), sysconfig.get_path("purelib")]),
    }
    code = (
        "from drgero.launcher import main, PACKAGE_DIR; assert 'site' in str(PACKAGE_DIR); main()"
    )
    ended = subprocess.run(
        [Path(sys.base_prefix) / "bin" / "python3", "-S", "-c", code, "--version"],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, f"gero, version {VERSION}\n"), ended.stderr
