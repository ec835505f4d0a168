"""What the loss surface looks like from where training stands."""

from attractor.landscape.activity import Rank, UnitActivity, soft_rank, unit_activity, update_ratios
from attractor.landscape.collapse import Collapse, neural_collapse
from attractor.landscape.deep_limits import (
    controlled_resnet,
    layer_differences,
    neural_signature_kernel,
    refine_layers,
    scaled_resnet,
    signature_kernel,
)
from attractor.landscape.kernel_regression import (
    hierarchical_kernels,
    learning_curve,
    patch_cosines,
    sphere_patches,
)
from attractor.landscape.lazy_training import (
    centered,
    grokking_gap,
    linearized,
    quadratic_test_loss,
    quadratic_units,
)
from attractor.landscape.paths import Barrier, filter_normalized, linear_barrier, loss_slice, random_subspace
from attractor.landscape.similarity import Matching, linear_cka, match_units
from attractor.landscape.spectrum import (
    SpectralDensity,
    extreme_eigenvalues,
    gradient_subspace_fraction,
    spectral_density,
    subspace_overlap,
    top_hessian_eigs,
)
from attractor.landscape.stability import (
    NoiseScale,
    Sharpness,
    adam_preconditioner,
    antisymmetry,
    gradient_noise_scale,
    preconditioned,
    sharpness,
    stability_threshold,
)
from attractor.landscape.tangent_kernel import (
    kernel_alignment,
    sketched_tangent_kernel,
    tangent_kernel,
    tangent_kernel_product,
)
from attractor.landscape.wide_limits import (
    RELU,
    Contractions,
    Criticality,
    Dual,
    LayerRecursion,
    PiecewiseLinear,
    WideKernels,
    WideMLP,
    correlation_exponent,
    criticality,
    derivative_contractions,
    dual_activation,
    infinite_ntk,
    kernel_recursion,
    linearized_dynamics,
)
