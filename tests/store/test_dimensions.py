import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.store.dimensions import of_products, wanted, woven


@pytest.mark.parametrize(
    ("name", "long_name", "liked"),
    [
        ("case", "identifier of the case", "case"),
        ("case_2", "identifier of the case", "case"),
        ("case_3", "case", "case"),
        ("atom_2", "atom_2", "atom_2"),
        ("atom_2", "atom", "atom"),
        ("k_atom_2", "atom of k", "k_atom"),
        ("b of c_a", "a of b of c", "b of c_a"),
        ("x%2Fy_a", "a of x/y", "x/y_a"),
        ("up_direction_2", "direction of up", "up_direction"),
        ("forward_right_hand_side", "right-hand side of the forward solves", "forward_right_hand_side"),
        ("iteration_2", "iteration, polish steps included", "iteration"),
        ("gauge", "symmetry of F", "gauge"),
        ("unheard_of", "something newer", "unheard_of"),
    ],
)
def test_the_name_that_a_dimension_would_have_liked(name, long_name, liked):
    assert wanted(name, long_name) == liked


def test_many_directions_belong_to_a_kind_of_products():
    uses = [("certificate/jvp_left/up/w/bound", 1), ("jvp_left/up/w", 1)]
    assert of_products("up_direction", "direction of up", uses) == "jvp_left"
    assert of_products("up_atom", "atom of up", uses) == ""


@pytest.mark.parametrize(
    ("old", "new", "both"),
    [
        ("adz", "abcz", "adbcz"),
        ("az", "xa", "xaz"),
        ("az", "azx", "azx"),
        ("bc", "ab", "abc"),
        ("", "ab", "ab"),
        ("ab", "", "ab"),
    ],
)
def test_what_is_new_comes_right_before_what_follows_it(old, new, both):
    assert "".join(woven(list(old), list(new))) == both


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.data())
def test_the_order_of_both_is_kept(whole, data):
    old, new = ([key for key in whole if data.draw(st.booleans())] for _ in range(2))
    both = woven(old, new)
    assert sorted(both) == sorted({*old, *new})
    assert [key for key in both if key in old] == old
    assert [key for key in both if key in new] == new
