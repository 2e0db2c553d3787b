"""Writes optimizers.txt and schedules.txt: PyTorch's optimizers with two groups, and learning rates. Needs torch.

optimizers.txt: a section "[optimizer type]" each, a line the values after a step. Two groups: [0.5, -1] with the first
settings and [2, 1.5, 0.25] with the second. The gradient of p is p * p - 3 at every step; the second parameter has none
in the second step. schedules.txt: a section a schedule, a line the rates at the steps 0, 1, ... from an initial rate 0.1.
optim_groups_test.cpp and schedule_test.cpp play the same.
"""
import pathlib

import torch
from torch.optim import lr_scheduler

HERE = pathlib.Path(__file__).parent
HEADER = f"# torch {torch.__version__.split('+')[0]}"
ADAM = [dict(lr=0.1), dict(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3)]
SGD = [dict(lr=0.1, momentum=0.9), dict(lr=0.02, momentum=0.5, dampening=0.25, weight_decay=0.3)]
OPTIMIZERS = {"Adam": (torch.optim.Adam, ADAM), "AdamW": (torch.optim.AdamW, ADAM), "SGD": (torch.optim.SGD, SGD)}
STEPS = 10


def trajectory(make, settings, dtype):
    values = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in ([0.5, -1.0], [2.0, 1.5, 0.25])]
    optimizer = make([dict(params=[p], **s) for p, s in zip(values, settings)], foreach=False)
    for step in range(STEPS):
        for i, p in enumerate(values):
            p.grad = None if step == 1 and i == 1 else p.detach() ** 2 - 3
        optimizer.step()
        yield " ".join(repr(float(v)) for p in values for v in p.detach())


def rates(make, count):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = make(optimizer)
    found = []
    for step in range(count):
        found.append(repr(optimizer.param_groups[0]["lr"]))
        if step + 1 < count:
            optimizer.step()
            schedule.step()
    return found


def warmed_up(after):
    return lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, start_factor=0.25, total_iters=4), after(o)], milestones=[4])


def cosine(o):
    return lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0.01)


def one_cycle(**settings):
    return lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, cycle_momentum=False, **settings)


SCHEDULES = {
    "constant": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.0), 3),
    "step": (lambda o: lr_scheduler.StepLR(o, 3, gamma=0.3), 11),
    "cosine": (cosine, 15),
    "one_cycle": (one_cycle(total_steps=20), 20),
    "one_cycle settings": (one_cycle(total_steps=17, pct_start=0.4, div_factor=10, final_div_factor=100), 17),
    "one_cycle falling": (one_cycle(total_steps=6, pct_start=0.01), 6),
    "warm_up constant": (lambda o: lr_scheduler.LinearLR(o, start_factor=1 / 3, total_iters=5), 8),
    "warm_up step": (warmed_up(lambda o: lr_scheduler.StepLR(o, 3, gamma=0.3)), 15),
    "warm_up cosine": (warmed_up(cosine), 15),
}

lines = [HEADER]
for name, (make, settings) in OPTIMIZERS.items():
    for dtype in (torch.float32, torch.float64):
        lines += [f"[{name} {str(dtype).split('.')[1]}]", *trajectory(make, settings, dtype)]
(HERE / "optimizers.txt").write_text("\n".join(lines) + "\n")

lines = [HEADER]
for name, (make, count) in SCHEDULES.items():
    lines += [f"[{name}]", *rates(make, count)]
(HERE / "schedules.txt").write_text("\n".join(lines) + "\n")
