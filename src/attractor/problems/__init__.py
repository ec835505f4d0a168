"""Ready problems. Each is a function that returns a `Problem`; registered ones have a name on the command line."""

from attractor.problems.affine_maximum import affine_maximum, least_maximum
from attractor.problems.arithmetic import arithmetic_extrapolation, arithmetic_units
from attractor.problems.audio import compressor_matching
from attractor.problems.bilevel import feature_penalties, free_lower_level, two_level_quadratic
from attractor.problems.bilinear import bilinear_game, leaving_players
from attractor.problems.binary_features import binary_digits, binary_iris
from attractor.problems.bounded_systems import bounded_systems
from attractor.problems.bundle_adjustment import bundle_adjustment, random_scene, reprojection_residuals
from attractor.problems.burgers import burgers_operator, burgers_pairs, gaussian_random_field, solve_burgers
from attractor.problems.client_splits import dirichlet_digits, split_by_dirichlet, split_by_label
from attractor.problems.clusters import gaussian_clusters
from attractor.problems.control import cartpole, pendulum
from attractor.problems.convex import least_absolute_deviations, least_squares, logistic_regression, ridge
from attractor.problems.coupled_levels import best_of_pieces, coupled_quadratic, feature_bounds, shared_sum
from attractor.problems.cut_sphere import on_cut_sphere
from attractor.problems.deep_hedging import deep_hedging, heston_paths
from attractor.problems.degenerate_systems import degenerate_zeros, multiple_root_system
from attractor.problems.diabetes import diabetes_mlp, diabetes_posterior, diabetes_sample
from attractor.problems.diagonal_network import diagonal_network
from attractor.problems.diffusion import digits_diffusion
from attractor.problems.digits import (
    averaged_pixels,
    digits,
    digits_logistic,
    digits_mlp,
    small_digits,
    small_digits_mlp,
)
from attractor.problems.elliptic import darcy_matrix, gaussian_field, poisson_matrix
from attractor.problems.federated_digits import federated_digits
from attractor.problems.feedforward import (
    adjoint_step,
    dense_net,
    dense_step,
    masked_autoencoder,
    pixel_step,
    rnn_adjoints,
)
from attractor.problems.friedman import friedman_regression
from attractor.problems.generalized_linear import imitated_neuron, sigmoid_classification, sigmoid_loss
from attractor.problems.graphs import Deadline, digits_graph, grid_paths, random_deadlines
from attractor.problems.hyperbolic import hyperbolic_levels
from attractor.problems.infeasible import distance_to_feasibility, linear_program, slow_rotations
from attractor.problems.kernel_machines import KernelMachine, poisoned_labels, radial_kernel
from attractor.problems.kinks import kinked_maximum, kinked_parabolas, kinked_valley, kinked_waves, relu_misfit
from attractor.problems.label_cleaning import label_cleaning
from attractor.problems.language import manual_text, text_transformer
from attractor.problems.linear_fields import (
    comonotone_matrix,
    comonotone_rotation,
    comonotonicity,
    linear_game,
    turning_matrix,
)
from attractor.problems.mass_action import mass_action_network
from attractor.problems.matrix import matrix_factorization, matrix_sensing, translated_bumps
from attractor.problems.matrix_games import matrix_game, matrix_game_value, onto_simplices
from attractor.problems.minimax_quadratics import degenerate_minimax, minimax_quadratic
from attractor.problems.multimodal import coupled_double_wells, quartic_saddle, rastrigin
from attractor.problems.multitask import overlaid_digits
from attractor.problems.navier_stokes import solve_navier_stokes, vorticity_field, wave_force
from attractor.problems.network_inputs import NetworkInput, digit_mixture, patient_change, reactor_settings
from attractor.problems.noisy import linear_noise, noisy_wells
from attractor.problems.phase_retrieval import phase_errors, quartic_phase_retrieval, robust_phase_retrieval
from attractor.problems.physics import burgers_pinn, burgers_wave
from attractor.problems.principal_components import shared_components
from attractor.problems.quadratics import (
    bilevel_quadratic,
    diagonal_quadratic,
    minimizer_in_ball,
    rotated_quadratic,
    similar_quadratics,
)
from attractor.problems.random_mdp import RandomMDP, random_mdp
from attractor.problems.rate_cases import (
    RateCase,
    absolute_deviations,
    interpolating_least_squares,
    penalized_least_squares,
    wave_in_a_bowl,
)
from attractor.problems.ring_gan import ring_gan
from attractor.problems.robust import attack_training, box_clusters, right_throughout
from attractor.problems.rosenbrock import rosenbrock, rosenbrock_on_sphere
from attractor.problems.semilinear import (
    banded_newton,
    losses_without_kink,
    negative_laplacian,
    residual_estimate,
    semilinear_control,
    semismooth_newton,
    snapshot_modes,
)
from attractor.problems.sequences import char_lstm, char_mlp, char_transformer, grammar_text, markov_text
from attractor.problems.softmax import softmax_on_gaussians
from attractor.problems.sparse_coding import SparseCode, digit_codes, random_sparse_code
from attractor.problems.state_space import impulse_response, linear_system
from attractor.problems.synthetic import (
    expected_margin_loss,
    linear_scores,
    logistic_of_scores,
    logistic_population,
    margin_loss,
    mean_margin_loss,
    noisy_logistic,
    overparametrized_regression,
    quadratic_from_zero,
    sparse_system,
)
from attractor.problems.temporal_order import temporal_order, temporal_order_sequences
from attractor.problems.tilted_wells import tilted_wells
from attractor.problems.tomography import (
    ellipse_phantoms,
    ellipse_scans,
    filtered_back_projection,
    moving_scan,
    radon_matrix,
)
from attractor.problems.vision import digits_conv, digits_resnet
from attractor.problems.widths import coordinate_check, digits_wide_mlp
