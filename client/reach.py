"""How far Adam can carry an adapter, whatever gradients it is given."""

import math

BETAS = (0.9, 0.999)  # of every Adam that trains here
SLACK = 1.001  # float32 rounding


def reach(learning_rate: float, steps: int, parameters: int) -> float:
    """Return the longest L2 norm of a change of ``parameters`` numbers in ``steps``.

    In step t Adam moves one number by the learning rate times ``m_t / sqrt(v_t)``, bias
    corrected. By Cauchy-Schwarz ``|m_t| / sqrt(v_t)`` is at most
    ``sqrt(sum_k ((1 - b1) b1^k)^2 / ((1 - b2) b2^k))`` with k = 0..t-1, a geometric
    sum; in step 1 that is exactly one learning rate (Kingma and Ba 2015, section 2.1).
    """
    first, second = BETAS
    share = (1 - first) ** 2 / (1 - second)
    ratio = first**2 / second
    moved = 0.0
    for step in range(1, steps + 1):
        worst = math.sqrt(share * (1 - ratio**step) / (1 - ratio))
        corrected = math.sqrt(1 - second**step) / (1 - first**step)
        moved += worst * corrected
    return SLACK * learning_rate * moved * math.sqrt(parameters)
