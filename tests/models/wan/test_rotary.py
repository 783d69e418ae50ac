import pytest
import torch

from recapture.models.wan.rotary import temporal_rows


def tables(model):
    return model.rope.freqs_cos, model.rope.freqs_sin


def run(model, length=4):
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(1, model.config.in_channels, length, 4, 6, generator=random)
    text = torch.randn(1, 16, model.config.text_dim, generator=random)
    with torch.no_grad():
        return model(inputs, torch.tensor([500.0]), text, return_dict=False)[0]


def test_whole_positions_are_the_rows_of_the_table_bit_for_bit(bases):
    model = bases["inpaint"].transformer
    time, before, chosen = model.rope.t_dim, tables(model), [7, 0, 1023, 3]
    with temporal_rows(model, chosen):
        for moved, table in zip(tables(model), before):
            assert torch.equal(moved[:4, :time], table[chosen, :time])
            assert torch.equal(moved[4:], table[4:]) and torch.equal(moved[:, time:], table[:, time:])
    plain = run(model)
    with temporal_rows(model, [0, 1.0, 2, 3]):
        assert torch.equal(run(model), plain)
    with temporal_rows(model, None):
        assert torch.equal(run(model), plain)


def test_real_positions_are_the_closed_form(bases):
    model = bases["inpaint"].transformer
    positions, time = [0.0, 4.2, 8.4, 12.6], model.rope.t_dim
    angle = torch.tensor(positions, dtype=torch.float64)[:, None] * 10000.0 ** (
        -torch.arange(0, time, 2, dtype=torch.float64) / time
    )
    with temporal_rows(model, positions):
        cos, sin = tables(model)
        for made, expected in ((cos, angle.cos()), (sin, angle.sin())):
            expected = expected.repeat_interleave(2, 1).float()
            torch.testing.assert_close(made[:4, :time], expected, rtol=0, atol=1e-6)
        assert torch.equal(cos[0], torch.ones_like(cos[0]))  # position 0 is whole
    with temporal_rows(model, [0, 1 + 1e-9, 2, 3]):  # the embedding is the one that made the table
        torch.testing.assert_close(run(model), run(bases["inpaint"].transformer), rtol=1e-5, atol=1e-6)


def test_only_distances_between_positions_matter_to_attention(bases):
    model = bases["inpaint"].transformer
    with temporal_rows(model, [0, 5, 10, 15]):
        first = run(model)
    with temporal_rows(model, [100.5, 105.5, 110.5, 115.5]):
        moved = run(model)
    torch.testing.assert_close(moved, first, rtol=1e-3, atol=1e-4)
    assert (first - run(model)).abs().max() > 1e-4


def test_the_tables_come_back_whatever_happens(bases):
    model = bases["inpaint"].transformer
    before = tables(model)
    with pytest.raises(KeyError), temporal_rows(model, [0, 9.5]):
        raise KeyError
    assert all(now is table for now, table in zip(tables(model), before))
    with temporal_rows(model, [0, 2]), temporal_rows(model, [0, 3]):
        pass
    assert all(now is table for now, table in zip(tables(model), before))


@pytest.mark.parametrize("positions", [[-1, 0], [0, 1024], [0.0] * 1025])
def test_positions_outside_the_tables_are_refused(bases, positions):
    model = bases["inpaint"].transformer
    with pytest.raises(ValueError, match="do not fit the 1024 positions"), temporal_rows(model, positions):
        pass
