"""A curve is a well-formed picture with all its points in it."""

from xml.etree import ElementTree

import pytest

from offline.pictures.page import HEIGHT, WIDTH, curve


@pytest.mark.parametrize("values", [[2.0], [1.0, 1.0], [3.0, 1.0, 2.0]])
def test_curve_has_a_point_per_epoch_inside_the_picture(values: list[float]) -> None:
    picture = ElementTree.fromstring(curve("a < b", values, len(values)))
    line, mark = picture.find("polyline"), picture.find("circle")
    assert line is not None and mark is not None
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == len(values)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert (float(mark.attrib["cx"]), float(mark.attrib["cy"])) == points[-1]
    assert points[values.index(max(values))][1] == min(y for _, y in points)
