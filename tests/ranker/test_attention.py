from __future__ import annotations

import pytest
import torch

from akt_spark.ranker.attention import Dice, TargetAttention, hard_search


def matching(history: torch.Tensor, *wanted: int) -> torch.Tensor:
    return torch.isin(history, torch.tensor(wanted))


def test_the_search_keeps_the_newest_matches_in_order():
    history = torch.tensor([[5, 7, 9, 5, 8], [9, 9, 7, 0, 0]])
    assert hard_search(history, matching(history, 5, 7, 8), keep=3).tolist() == [[5, 7, 5], [7, 0, 0]]


def test_the_search_is_as_wide_as_its_longest_result():
    history = torch.tensor([[5, 7, 9, 0], [9, 0, 0, 0]])
    assert hard_search(history, matching(history, 7), keep=3).tolist() == [[7], [0]]
    assert hard_search(history, matching(history, 1), keep=3).tolist() == [[0], [0]]


@pytest.fixture
def attention() -> TargetAttention:
    module = TargetAttention(query_dim=6, entry_dim=5, dim=4, hidden=8)
    with torch.no_grad():
        module.null.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    return module


def test_an_empty_history_gives_the_learned_vector(attention):
    entries, position = torch.randn(3, 5), torch.zeros(2, 4, dtype=torch.int64)
    mask = torch.tensor([[False] * 4, [True] + [False] * 3])
    attended = attention(torch.randn(2, 6), entries, position, mask)
    assert torch.equal(attended[0], attention.null)
    torch.testing.assert_close(attended[1], attention.value(entries[0]))


def test_masked_positions_change_nothing_and_have_no_gradient(attention):
    query, entries = torch.randn(1, 6), torch.randn(5, 5, requires_grad=True)
    short = attention(query, entries, torch.tensor([[0, 1]]), torch.ones(1, 2).bool())
    mask = torch.tensor([[True, False, True, False]])
    padded = attention(query, entries, torch.tensor([[0, 3, 1, 4]]), mask)
    torch.testing.assert_close(padded, short)
    padded.sum().backward()
    assert not entries.grad[2:].any() and entries.grad[:2].any(1).all()


def test_the_order_of_entries_does_not_matter(attention):
    query, entries, mask = torch.randn(1, 6), torch.randn(4, 5), torch.ones(1, 4).bool()
    forward = attention(query, entries, torch.tensor([[0, 1, 2, 3]]), mask)
    torch.testing.assert_close(forward, attention(query, entries, torch.tensor([[3, 1, 0, 2]]), mask))


def test_the_folded_layer_scores_query_key_difference_and_product(attention):
    """The form of the DIN paper: one linear layer on [q, k, q - k, q * k]."""
    query, entries = torch.randn(1, 6), torch.randn(3, 5)
    q, k, v = attention.query(query), attention.key(entries), attention.value(entries)
    minus = torch.randn(8, 4)
    of_key, of_product = attention.from_entry.weight.split(4, 1)
    wide = torch.cat([attention.from_query.weight - minus, of_key + minus, minus, of_product], 1)
    features = torch.cat([q.expand_as(k), k, q - k, q * k], 1)
    hidden = torch.relu(features @ wide.T + attention.from_query.bias)
    expected = torch.softmax(attention.score(hidden)[:, 0], 0) @ v
    attended = attention(query, entries, torch.tensor([[0, 1, 2]]), torch.ones(1, 3).bool())
    torch.testing.assert_close(attended[0], expected)


def test_without_softmax_values_add_up_by_their_scores_so_that_more_entries_count_more():
    attention = TargetAttention(query_dim=6, entry_dim=5, dim=4, hidden=8, softmax=False)
    query, entries = torch.randn(1, 6), torch.randn(3, 5)
    mask = torch.tensor([[True, True, False]])
    q, k, v = attention.query(query), attention.key(entries), attention.value(entries)
    hidden = torch.relu(attention.from_query(q) + attention.from_entry(torch.cat([k, q * k], 1)))
    scores = attention.score(hidden)[:, 0]
    attended = attention(query, entries, torch.tensor([[0, 1, 2]]), mask)
    torch.testing.assert_close(attended[0], scores[0] * v[0] + scores[1] * v[1])
    twice = attention(query, entries, torch.tensor([[0, 0]]), torch.ones(1, 2).bool())
    torch.testing.assert_close(twice[0], 2 * scores[0] * v[0])


@pytest.mark.parametrize("how", [{}, {"activation": "dice"}, {"softmax": False}], ids=["relu", "dice", "sums"])
@pytest.mark.parametrize("there", [0.0, 0.01, 0.2, 1.0])
def test_entries_packed_or_padded_give_the_same_numbers_and_gradients(how, there):
    module = TargetAttention(query_dim=6, entry_dim=5, dim=4, hidden=8, **how)
    query, entries = torch.randn(30, 6, requires_grad=True), torch.randn(9, 5, requires_grad=True)
    position, mask = torch.randint(9, (30, 7)), torch.rand(30, 7) < there
    mask[:3] = False
    found = []
    for attend in (module._packed, module._padded):
        module.zero_grad()
        query.grad = entries.grad = None
        asked, keys, values = module.query(query), module.key(entries), module.value(entries)
        attended = torch.where(mask.any(1, keepdim=True), attend(asked, keys, values, position, mask), module.null)
        attended.square().sum().backward()
        grads = [parameter.grad for parameter in module.parameters()]
        found.append([attended, query.grad, entries.grad, *(grad for grad in grads if grad is not None)])
    for packed, padded in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded)


@pytest.mark.parametrize("there", [0.2, 1.0])
def test_entries_are_packed_where_few_are_there_unless_that_is_off(attention, monkeypatch, there):
    called = []
    monkeypatch.setattr(attention, "_packed", lambda query, *rest: called.append("packed") or query)
    monkeypatch.setattr(attention, "_padded", lambda query, *rest: called.append("padded") or query)
    mask = torch.arange(10) < 10 * there
    for packs in (True, False):
        attention.packs = packs
        attention(torch.randn(2, 6), torch.randn(3, 5), torch.zeros(2, 10, dtype=torch.int64), mask.expand(2, 10))
    assert called == ["packed" if there < 0.5 else "padded", "padded"]


def test_packed_entries_are_scored_in_bfloat16_too(attention):
    query, entries, position = torch.randn(4, 6), torch.randn(3, 5), torch.randint(3, (4, 9))
    mask = torch.rand(4, 9) < 0.3
    with torch.autocast("cpu", torch.bfloat16):
        attended = attention(query, entries, position, mask)
    assert torch.isfinite(attended).all()
    torch.testing.assert_close(attended.float(), attention(query, entries, position, mask), atol=0.05, rtol=0.05)


def test_dice_is_its_formula_over_the_entries_that_are_there():
    dice = Dice(3)
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.0, 0.5, 1.0]))
    values, mask = torch.randn(4, 5, 3), torch.rand(4, 5) < 0.6
    shown = values[mask]
    share = torch.sigmoid((shown - shown.mean(0)) / (shown.var(0, correction=0) + 1e-5).sqrt())
    activated = dice(values, mask)
    torch.testing.assert_close(activated[mask], share * shown + (1 - share) * dice.alpha * shown)
    torch.testing.assert_close(activated[..., 2], values[..., 2] * mask)  # alpha 1 passes everything on
    assert not activated[~mask].any()
    padded = torch.where(mask[..., None], values, torch.full_like(values, 1e6))
    torch.testing.assert_close(Dice(3)(padded, mask), Dice(3)(values, mask))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("entries", [0, 1])
def test_dice_works_on_a_batch_with_hardly_an_entry(training, entries):
    dice = Dice(3).train(training)
    mask = torch.arange(4)[None] < entries
    activated = dice(torch.randn(1, 4, 3), mask)
    assert torch.isfinite(activated).all() and not activated[~mask].any()
    assert torch.equal(dice.norm.running_mean, torch.zeros(3))
