"""Settings in nested dataclasses, and the flat list of them."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from descnet3d.fields import Flag, changed, flat, settings_of


@dataclass(frozen=True)
class Oven:
    degrees: Annotated[float, "how hot"] = 180.0
    num_minutes: Annotated[int | None, "how long; none: until it is brown"] = None
    fan: Annotated[bool, "whether air is moved", Flag("fan")] = True

    def __post_init__(self):
        if self.degrees > 300:
            raise ValueError(f"degrees must be at most 300, but it is {self.degrees}.")


@dataclass(frozen=True)
class Crust:
    oven: Annotated[Oven, "Baked blind", Flag("blind", without=("fan",))] = Oven(200.0)
    note: str = "no setting"


@dataclass(frozen=True)
class Cake:
    name: Annotated[str, "what it is called"] = "tarte"
    crust: Annotated[Crust, "The crust"] = Crust()
    oven: Annotated[Oven, "Baked", Flag("baked")] = Oven()


def test_settings_are_listed_under_the_prefixes_of_the_parts_that_hold_them():
    assert flat(Cake()) == {
        "name": "tarte",
        "blind_degrees": 200.0,
        "blind_minutes": None,
        "baked_degrees": 180.0,
        "baked_minutes": None,
        "fan": True,
    }


def test_a_setting_says_its_type_and_its_meaning():
    found = settings_of(Cake)
    minutes, fan = found["blind_minutes"], found["fan"]
    assert (minutes.kind, minutes.optional) == (int, True)
    assert minutes.meaning == "Baked blind: how long; none: until it is brown"
    assert (fan.kind, fan.optional) == (bool, False)


def test_settings_are_changed_by_these_names_and_the_rest_stays():
    cake = changed(Cake(), {"blind_minutes": 20, "fan": False, "name": "quiche"})
    assert cake == Cake("quiche", Crust(Oven(200.0, 20)), Oven(fan=False))
    assert changed(cake, flat(Cake())) == Cake()


def test_what_is_wrong_is_told_with_the_part_that_it_is_in():
    with pytest.raises(ValueError, match="crust: oven: degrees must be at most 300"):
        changed(Cake(), {"blind_degrees": 400.0})
    with pytest.raises(ValueError, match="no setting 'blind_degree'; did you mean \"blind_deg"):
        changed(Cake(), {"blind_degree": 100.0})
