import torch

from recapture.models.training.average import update_average


def test_the_average_has_its_closed_form():
    decay, values = 0.9, [torch.randn(3, 2).double() for _ in range(6)]
    average = {"a": values[0].clone()}
    for value in values[1:]:
        update_average(average, {"a": value}, decay, step=1000)
    expected = decay**5 * values[0] + sum(
        (1 - decay) * decay ** (5 - n) * value for n, value in enumerate(values) if n
    )
    torch.testing.assert_close(average["a"], expected)


def test_the_first_steps_do_not_hold_on_to_the_start_values():
    average = {"a": torch.zeros(1)}
    update_average(average, {"a": torch.ones(1)}, 0.999, step=1)
    torch.testing.assert_close(average["a"], torch.full((1,), 10 / 11))
