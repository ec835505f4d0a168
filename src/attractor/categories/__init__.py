"""Learning in categories: lenses and reverse derivatives."""

from attractor.categories.boolean import (
    CircuitLearning,
    ReverseDerivativeAscent,
    boolean_difference,
    conjunction,
    error_rate,
    evaluate_gates,
    lut_circuit,
    modulo2,
    negation,
    parity,
    rda_step,
    reverse_derivative,
    reverse_derivative_ascent,
    truth_table,
    xor,
)
