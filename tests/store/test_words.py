import pytest

from implicit_cli.store.words import joined, told, weakest, weakest_kind


def test_the_weakest_of_all():
    assert weakest(["proved", "computed", "proved"]) == "computed"
    assert weakest(["computed", "not stated", "estimated"]) == "not stated"
    assert weakest_kind(["bound", "estimate"]) == "estimate"
    assert weakest_kind(["bound", "bound"]) == "bound"
    assert joined(["b", "a", "b"]) == "b, a"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["a; b"], "a; b"),
        (["1; 2; 3; 4; 5; 6; 6"], "1; 2; 3; 4; 5; 6; 6"),
        (["a; b", "b", "c"], "a; b; c"),
        ([str(n) for n in range(8)], "0; 1; 2; 3; 4; and 3 more"),
        (["a; b; c; d; e; and 3 more", "f"], "a; b; c; d; e; and 4 more"),
    ],
)
def test_what_differs_is_told_piece_by_piece(values, text):
    assert told(values) == text
