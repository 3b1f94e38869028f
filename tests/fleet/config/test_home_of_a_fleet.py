"""Which folder is the fleet's: FLEET_HOME, a checkout's own, or the nearest one for which the user ran `fleet init`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet.config import credentials, home
from tests.support.paths import CHECKOUT


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, outside a checkout and without FLEET_HOME."""
    for name in ("FLEET_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def create(folder: Path) -> None:
    (folder / ".fleet").mkdir(parents=True)
    home.record_folder(folder)


def locate(code: Path = Path("/usr/lib/nowhere")) -> home.Home:
    return home.locate(code)


def test_the_nearest_created_folder_is_used(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(user / "shop")
    create(user / "shop" / "inner")
    (user / "shop" / "inner" / "deep").mkdir()
    (user / "shop" / "other").mkdir()
    for folder, expected in (("inner/deep", "inner/.fleet"), ("other", ".fleet"), (".", ".fleet")):
        monkeypatch.chdir(user / "shop" / folder)
        assert locate() == home.Home(user / "shop" / expected)


def test_a_folder_that_was_not_created_here_is_no_fleet(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user / "clone" / ".fleet").mkdir(parents=True)
    monkeypatch.chdir(user / "clone")
    assert locate() == home.Home(user / "clone" / ".fleet", missing=True)


def test_a_removed_folder_is_no_fleet(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(user / "shop")
    monkeypatch.chdir(user / "shop")
    shutil.rmtree(user / "shop" / ".fleet")
    assert locate().missing
    shutil.rmtree(user / "shop")
    assert locate().missing


def test_fleet_home_comes_first_and_a_checkout_second(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(user)
    assert locate(CHECKOUT) == home.Home(CHECKOUT / ".fleet")
    monkeypatch.setenv("FLEET_HOME", "~/another")
    assert locate(CHECKOUT) == locate() == home.Home(user / "another")


def test_without_a_fleet_credentials_are_not_stored(user: Path) -> None:
    first, second = credentials.ensure(locate()), credentials.ensure(locate())
    assert first.secret_key != second.secret_key
    assert list(user.iterdir()) == []


def test_a_folder_is_recorded_once(user: Path) -> None:
    for name in ("a", 'b"\n', "a"):
        home.record_folder(user / name)
    record = user / ".local" / "state" / "fleet" / "folders.jsonl"
    assert len(record.read_text().splitlines()) == 2
    assert home.created_folders() == {user / "a", user / 'b"\n'}


def test_a_damaged_record_is_reported_with_a_remedy(user: Path) -> None:
    home.record_folder(user / "a")
    record = user / ".local" / "state" / "fleet" / "folders.jsonl"
    record.write_text(record.read_text()[:-3])
    with pytest.raises(ImproperlyConfigured, match=r"folders.jsonl is damaged .* run `fleet init` again"):
        locate()


def test_a_user_without_a_folder_for_the_record_gets_the_hint_to_set_fleet_home(user: Path) -> None:
    (user / ".local").write_text("a file")
    with pytest.raises(ImproperlyConfigured, match=f"FLEET_HOME={user}/shop/.fleet"):
        home.record_folder(user / "shop")


def test_a_package_is_no_checkout_even_if_another_package_installed_a_manage_py_beside_it(tmp_path: Path) -> None:
    for name, expected in (("opt", True), ("site-packages", False), ("dist-packages", False)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manage.py").touch()
        assert home.is_checkout(tmp_path / name) is expected
    assert home.is_checkout(CHECKOUT)
    assert not home.is_checkout(tmp_path)
