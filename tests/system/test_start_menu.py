"""A published application is in the start menu: its desktop entry starts it, as any menu would."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.pictures import is_drawn
from tests.stage import Stage


def test_gtk_launch_starts_a_published_application_and_withdrawing_it_takes_the_entry_away(
    on_stage: Stage, tmp_path: Path
) -> None:
    on_stage.publish("galculator")
    on_stage.sign_in()
    user, visit = on_stage.visit.user, on_stage.visit
    visit.appclient("refresh")
    entries = sorted((user.home / ".local/share/applications").glob("millstream-*.desktop"))
    assert [entry.name for entry in entries] == ["millstream-galculator.desktop"]
    assert list((user.home / ".local/share/icons/hicolor").rglob("millstream-galculator.*"))

    with on_stage.display.screen() as screen:
        screen.forget()
        user.run(
            ["gtk-launch", "millstream-galculator"],
            environment={"DISPLAY": on_stage.display.name, "XAUTHORITY": str(user.runtime / "Xauthority")},
            check=True,
        )
        window = screen.first_window(120)
        assert window is not None
        assert screen.wait_drawn(window, 60)
        screen.screenshot(tmp_path / "menu.png")
        assert is_drawn(tmp_path / "menu.png")
    subprocess.run(["pkill", "-u", str(user.uid), "-x", "galculator"], check=False)

    on_stage.service.command("revoke", "galculator", "everybody")
    visit.appclient("refresh")
    assert not list((user.home / ".local/share/applications").glob("millstream-*"))
    assert not list((user.home / ".local/share/icons").rglob("millstream-*"))
