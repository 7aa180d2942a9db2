"""The folder of compiled cells: which it is, whom it is open to, and what happens without it."""

import os
import resource
import stat
import warnings

import pytest
from fake_compilers import REAL, answering, ask, forked, make, names

from fastrnn.compiled import folder
from fastrnn.compiled.folder import CacheError

pytestmark = pytest.mark.skipif(REAL is None, reason="no C++ compiler here")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTRNN_CACHE": "/some/where"}, "/some/where"),
        ({"FASTRNN_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/fastrnn"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/fastrnn"),
        ({"FASTRNN_CACHE": "~/mine", "HOME": "/home/me"}, "/home/me/mine"),
    ],
)
def test_which_folder(monkeypatch, environment, expected):
    for name in ("FASTRNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(folder.chosen()) == expected


def test_folders_that_are_not_trusted(tmp_path, monkeypatch):
    ours = folder.prepared(tmp_path / "ours")
    for mode in (0o770, 0o702, 0o777):
        ours.chmod(mode)
        with pytest.raises(CacheError, match=rf"can be written by others \(mode {mode:o}\)"):
            folder.prepared(ours)
    ours.chmod(0o755)  # others may read
    link = tmp_path / "link"
    link.symlink_to(ours)
    assert folder.prepared(link) == ours
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        for path in (ours, link):
            with pytest.raises(CacheError, match=r"belongs to user \d+, not to user 12345"):
                folder.prepared(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="is not a folder"):
        folder.prepared(tmp_path / "file")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(CacheError, match="cannot be made"):
        folder.prepared(tmp_path / "circle")
    tmp_path.chmod(0o777)
    with pytest.raises(CacheError, match="where everybody may rename"):
        folder.prepared(ours)
    tmp_path.chmod(0o1777)
    assert folder.prepared(ours) == ours


@pytest.mark.parametrize("bad", ["no folder", "somebody else's", "open to all"])
def test_a_temporary_folder_in_the_place_of_a_bad_one(cache_folder, fake_compiler, bad):
    if bad == "no folder":
        cache_folder.write_text("a file")
    else:
        cache_folder.mkdir(mode=0o700)
        if bad == "open to all":
            cache_folder.chmod(0o777)
        elif os.geteuid() == 0:
            os.chown(cache_folder, 12345, -1)
        else:
            pytest.skip("only root can give a folder away")
    with pytest.warns(UserWarning, match="keeps no compiled cells for later: .*cache .*FASTRNN_C"):
        library = make()
    assert ask(library) == 42 and cache_folder not in library.parents
    assert stat.S_IMODE(library.parents[1].stat().st_mode) == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert make() == library and ask(make(answering(43))) == 43
    folder._forget(os.getpid(), library.parents[1])
    assert not library.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_home_that_cannot_be_written(cache_folder, fake_compiler):
    def somebody():
        os.setuid(65534)
        warnings.simplefilter("ignore")
        library = make()
        os._exit(ask(library) if not cache_folder.exists() else 1)

    for parent in (cache_folder.parent, *cache_folder.parent.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)  # pytest's are closed
    process = forked(somebody)
    process.join(60)
    assert process.exitcode == 42


def test_a_full_disk(cache_folder, fake_compiler):
    fake_compiler.do(
        f'case "$PWD" in {cache_folder}*) echo "x.o: No space left on device" >&2; exit 1;; esac'
    )
    with pytest.warns(UserWarning, match="cache cannot be written: No space left on device"):
        library = make()
    assert ask(library) == 42 and names(cache_folder) == []


def test_no_room_anywhere(cache_folder, fake_compiler):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        warnings.simplefilter("ignore")
        try:
            make()
        except CacheError as error:
            os._exit(7 if "nor can" in str(error) else 8)
        os._exit(9)

    process = forked(limited)
    process.join(60)
    assert process.exitcode == 7 and names(cache_folder) == []
