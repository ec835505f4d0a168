"""Ready problems. Each is a function that returns a `Problem`; registered ones have a name on the command line."""

from attractor.problems.arithmetic import arithmetic_extrapolation, arithmetic_units
from attractor.problems.audio import compressor_matching
from attractor.problems.bilinear import bilinear_game
from attractor.problems.bundle_adjustment import bundle_adjustment, random_scene, reprojection_residuals
from attractor.problems.burgers import burgers_operator, burgers_pairs, gaussian_random_field, solve_burgers
from attractor.problems.control import cartpole, pendulum
from attractor.problems.convex import logistic_regression, ridge
from attractor.problems.deep_hedging import deep_hedging, heston_paths
from attractor.problems.digits import digits, digits_logistic, digits_mlp
from attractor.problems.federated_digits import federated_digits
from attractor.problems.mass_action import mass_action_network
from attractor.problems.matrix import matrix_factorization, matrix_sensing
from attractor.problems.minimax_quadratics import degenerate_minimax, minimax_quadratic
from attractor.problems.multimodal import rastrigin
from attractor.problems.multitask import overlaid_digits
from attractor.problems.navier_stokes import solve_navier_stokes, vorticity_field, wave_force
from attractor.problems.physics import burgers_pinn, burgers_wave
from attractor.problems.quadratics import diagonal_quadratic, rotated_quadratic
from attractor.problems.random_mdp import RandomMDP, random_mdp
from attractor.problems.rosenbrock import rosenbrock
from attractor.problems.semilinear import negative_laplacian, semilinear_control, semismooth_newton
from attractor.problems.sequences import char_lstm, char_transformer, grammar_text
from attractor.problems.temporal_order import temporal_order, temporal_order_sequences
from attractor.problems.tomography import radon_matrix
from attractor.problems.vision import digits_conv
