"""What building does to files; the artifacts themselves are run in tests/e2e."""

import os
import struct
import subprocess
import sys
import zipfile

import pytest

from deploy.build import archive, build, compile_sources, normalize, target_python
from deploy.packages import Target, _lines_of, _name_of, strip, strip_elf


def tree(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_same_files_make_the_same_archive_whenever_and_however_they_were_written(tmp_path):
    one = tree(tmp_path / "one", {"b.py": b"1", "a/c.py": b"2", "run": b"#!/bin/sh\n"})
    two = tree(tmp_path / "two", {"run": b"#!/bin/sh\n", "a/c.py": b"2", "b.py": b"1"})
    (one / "run").chmod(0o700)
    (two / "run").chmod(0o775)
    os.utime(two / "b.py", (1_700_000_000, 1_700_000_000))
    for folder in (one, two):
        normalize(folder)
        archive(folder, folder.with_suffix(".zip"))
    assert one.with_suffix(".zip").read_bytes() == two.with_suffix(".zip").read_bytes()
    with zipfile.ZipFile(one.with_suffix(".zip")) as zipped:
        assert zipped.namelist() == ["a/c.py", "b.py", "run"]
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in zipped.infolist()}
    assert modes == {"a/c.py": 0o644, "b.py": 0o644, "run": 0o755}, "Lambda must be able to run the wrapper"


def test_what_no_function_needs_is_left_out(tmp_path):
    kept = {
        **{"sqlalchemy/dialects/mysql/base.py": b"", "aws_lambda_powertools/utilities/parameters/base.py": b""},
        **{
            "aws_lambda_powertools/metrics/metrics.py": b"",
            "x-1.dist-info/METADATA": b"",
            "x-1.dist-info/licenses/L": b"",
        },
    }
    needless = {
        **{"bin/httpx": b"#!", "x/tests/test_x.py": b"", "x/a.pyi": b"", "x/a.pyx": b"", "x/__pycache__/a.pyc": b""},
        **{"x-1.dist-info/RECORD": b"", "x-1.dist-info/INSTALLER": b"", "cffi/api.py": b"", ".lock": b""},
        **{"aws_lambda_powertools/event_handler/a.py": b"", "sqlalchemy/dialects/oracle/base.py": b""},
        **{"aws_lambda_powertools/utilities/parser/p.py": b"", "aws_lambda_powertools/utilities/kafka/p.py": b""},
    }
    strip(tree(tmp_path, {**kept, **needless}))
    assert names(tmp_path) == sorted(kept)


def test_a_library_is_cut_behind_its_last_segment():
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)  # program headers begin
    struct.pack_into("<Q", header, 40, 200)  # section headers begin
    struct.pack_into("<HHHHH", header, 54, 56, 1, 64, 3, 2)
    segment = bytearray(56)
    struct.pack_into("<Q", segment, 8, 0)
    struct.pack_into("<Q", segment, 32, 150)
    library = bytes(header + segment).ljust(150, b"c") + b"debug" * 20
    cut = strip_elf(library)
    assert cut[150:] == b""
    assert cut[120:] == library[120:150]
    assert struct.unpack_from("<Q", cut, 40) == (0,)
    assert struct.unpack_from("<HHHHH", cut, 54) == (56, 1, 64, 0, 0)
    assert strip_elf(b"!<arch>\n") == b"!<arch>\n"


def test_a_locked_requirement_keeps_its_hashes_and_marker(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# locked\nAnyio==4.1 ; python_version < '3.12' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nx==1\n"
    )
    first, second = _lines_of(path)
    assert first == "Anyio==4.1 ; python_version < '3.12' --hash=sha256:aa --hash=sha256:bb"
    assert (_name_of(first), _name_of(second)) == ("anyio", "x")


def test_only_the_targets_interpreter_compiles(tmp_path):
    other = tmp_path / "python3.13"
    other.write_text("#!/bin/sh\necho 3.9\n")
    other.chmod(0o755)
    assert target_python({"PATH": str(tmp_path)}) is None
    with pytest.raises(ValueError, match=r"no Python 3\.13"):
        target_python({"PYTHON313": str(other)})
    other.write_text("#!/bin/sh\necho 3.13\n")
    assert target_python({"PATH": str(tmp_path)}) == str(other)
    assert target_python({"PATH": "/nowhere"}) is None


def test_a_function_is_its_folder_without_caches(tmp_path):
    build("CreateChatFunction", tmp_path / "out", Target(), None)
    assert names(tmp_path / "out") == ["app.py"]


def test_a_name_that_is_no_artifact_is_refused(tmp_path):
    for name in ("CreateChatRole", "Nothing"):
        with pytest.raises(LookupError, match="no artifact"):
            build(name, tmp_path / "out", Target(), None)


def test_compiled_code_names_no_machine_and_looks_at_no_time_stamp(tmp_path):
    folder = tree(tmp_path / "var", {"app.py": b"def f():\n    return 1\n"})
    compile_sources(folder, "/var/task", sys.executable)
    (compiled,) = (folder / "__pycache__").iterdir()
    content = compiled.read_bytes()
    assert int.from_bytes(content[4:8], "little") == 0b01, "a hash that is not checked"
    assert b"/var/task/app.py" in content
    assert str(tmp_path).encode() not in content


def test_the_certificates_of_rds_verify_and_last():
    program = (
        "import ssl, time; c = ssl.create_default_context(cafile='layers/common/rds-ca.pem').get_ca_certs(); "
        "print(len(c), min(ssl.cert_time_to_seconds(x['notAfter']) for x in c) - time.time() > 2 * 365 * 86400)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, lasts = done.stdout.split()
    assert int(count) >= 60, "three for each region"
    assert lasts == "True"
