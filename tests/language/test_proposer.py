"""The offline proposer reads prompts as a person would, says why, and says what it did not understand."""

import pytest

from jaxphys import language, mpm


@pytest.mark.parametrize(
    "prompt, material",
    [
        ("a soft rubber robot drops and bounces", "rubber"),
        ("a robot made of wet sand collapses", "wet sand"),
        ("dry sand pours", "sand"),
        ("a memory foam pillow", "memory foam"),
        ("a steel ball hits the floor", "steel"),
        ("honey drips onto bread", "honey"),
        ("not rubber but clay", "clay"),
        ("a bouncy castle", "rubber"),
        ("tomato sauce", "ketchup"),
        ("a snowman melts", "snow"),
    ],
)
def test_material(prompt, material):
    assert language.propose(prompt).material == material


def test_every_row_makes_a_law_and_has_a_source():
    names = [row.name for row in language.load_table()]
    assert len(names) == len(set(names)) >= 40
    for row in language.load_table():
        assert row.source
        proposal = language.propose(row.words[0])
        assert proposal.material == row.name
        law = mpm.materials.create(proposal.law, density=proposal.density, **proposal.simulated)
        speed = float((law.wave_modulus() / proposal.density) ** 0.5)
        assert speed < 450, f"{row.name} would carry sound at {speed} m/s"


def test_adjectives_order_stiffness_and_are_named():
    words = ("very soft", "soft", "", "hard", "very hard")
    E = [language.propose(f"a {word} rubber ball").means["E"] for word in words]
    assert E == sorted(E) and len(set(E)) == 5
    assert any("'soft'" in reason for reason in language.propose("soft rubber").reasons)
    assert language.propose("not soft rubber").means["E"] == language.propose("rubber").means["E"]


def test_unknown_words_and_doubt_are_reported():
    proposal = language.propose("a quixotic flurb")
    assert proposal.unknown == ("quixotic", "flurb")
    assert proposal.confidence < 0.2
    assert language.propose("rubber or steel").confidence < language.propose("rubber").confidence
    with pytest.raises(ValueError, match="empty"):
        language.propose("  ")
    with pytest.raises(ValueError, match="excludes every"):
        language.propose("not rubber, not jelly, not plastic")


def test_the_capping_rule_keeps_the_order_and_the_yield_strain():
    steel, lead = language.propose("steel"), language.propose("lead")
    assert steel.simulated["E"] > lead.simulated["E"]
    for p in (steel, lead):
        measured, used = p.means, p.simulated
        assert used["yield_stress"] / used["E"] == pytest.approx(measured["yield_stress"] / measured["E"])
