"""Curvature: Newton, Gauss-Newton, natural gradient, Kronecker factors."""

from attractor.second_order.affine_scaling import (
    MixedScaling,
    ScaledTrustRegion,
    coleman_li,
    hager_mair_zhang,
    heinkenschloss_ulbrich,
    kanzow_klug,
)
from attractor.second_order.deflation import (
    ALPHA,
    AlphaTest,
    DeflatedSystem,
    alpha_test,
    inverse_system,
    newton_iterates,
)
from attractor.second_order.diagonal import adahessian, scale_by_adahessian, spatial_average
from attractor.second_order.energy import (
    EnergyAudit,
    MetricProblem,
    audit_energy,
    energy_descent,
    euclidean,
    gaussian_divergence,
    gaussian_metric,
    rosenbrock_by_fisher,
    simplex_metric,
    simplex_mixture,
)
from attractor.second_order.gauss_newton import GaussNewton, dual_direction
from attractor.second_order.input_gain import TwoStageTraining, gained, subspace_gauss_newton, whitening
from attractor.second_order.kronecker import (
    Kfac,
    Mkor,
    first_moments,
    kronecker_solve,
    layer_statistics,
    rank_one_inverse_update,
    second_moments,
)
from attractor.second_order.lagrange_newton import LagrangeNewton, newton_divergence, newton_step
from attractor.second_order.learned_damping import (
    LearnedDamping,
    constant_rule,
    damping_environment,
    learned_rule,
    losses_of_many,
    tenfold_rule,
)
from attractor.second_order.levenberg_marquardt import LevenbergMarquardt, ResidualLevenbergMarquardt, damped_step
from attractor.second_order.lie_group import psgd, scale_by_psgd
from attractor.second_order.line_search import line_search_newton, scale_by_newton
from attractor.second_order.newton import LazyNewton, cubic_step
from attractor.second_order.polynomial import KrylovGradient, symmetric_polynomial_preconditioner
from attractor.second_order.regularized_newton import (
    DampedNewton,
    GradientRegularizedNewton,
    cubic_stepsize,
    empirical_fisher,
    exact_hessian,
    gauss_newton_hessian,
    root_stepsize,
)
from attractor.second_order.saddle_free import SaddleFreeNewton, abs_hessian_solve
from attractor.second_order.sketching import SketchedNewton, sketch_and_project
from attractor.second_order.thermodynamic import ThermodynamicNaturalGradient, ornstein_uhlenbeck
