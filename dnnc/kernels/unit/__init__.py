"""Float32 products on the processor's matrix unit (Intel's AMX), which multiplies bfloat16.

A float32 has a significand of 24 bits, a bfloat16 one of 8 with exponents of the same range. So a
number x is, without an error, the sum of three pieces x0 + x1 + x2 in bfloat16, and a product x y
the sum of nine products of pieces, which are exact in float32. The six largest are computed: x0 y0,
x0 y1, x1 y0, x1 y1, x0 y2, x2 y0. What is left out, x1 y2 + x2 y1 + x2 y2, is less than 2**-22 of
x y and has either sign alike, as the rounding of x y to float32 has. Sums are taken in float32, in
blocks, so that fewer roundings add up than in a loop of multiply-adds: products come out closer to
the exact ones than from such a loop, which `tests/kernels/test_unit.py` measures.

What differs is at the ends of the range. The unit counts what is below 2**-126 as zero, pieces of
numbers and products of pieces alike: numbers below 2**-110 and products below 2**-107 lose bits of
their significand. An infinite operand gives NaN, and so may a product that overflows.

After Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
Higher-Precision Computations" (2019).
"""
