"""What a baseline fits and scores is what the library it stands on makes of standardised rows, called by hand."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn import (
    cluster,
    covariance,
    decomposition,
    ensemble,
    kernel_approximation,
    linear_model,
    mixture,
    neighbors,
    svm,
)
from sklearn.preprocessing import StandardScaler

from deepad.baselines import (
    DBSCANDistance,
    GaussianMixture,
    IsolationForest,
    KernelDensity,
    KMeansDistance,
    KNearestNeighbors,
    LocalOutlierFactor,
    MeanDistance,
    MultivariateGaussian,
    OneClassSVM,
    PCAResidual,
)

close = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module", params=[4, 20], ids=["tree", "brute"])
def rows(request):
    """Raw training rows in units of their own, with copies among them, and new rows, some of them training rows."""
    rng = np.random.default_rng(request.param)
    mixing = rng.normal(size=(request.param, request.param)) * 10 ** rng.uniform(-2, 2, request.param)
    x = rng.normal(size=(150, request.param)) @ mixing + 100
    x[140:] = x[:10]
    new = 3 * rng.normal(size=(60, request.param)) @ mixing + 100
    new[50:] = x[50:60]
    return x, new


@pytest.fixture(scope="module")
def scaled(rows):
    scaler = StandardScaler().fit(rows[0])
    return scaler.transform(rows[0]), scaler.transform(rows[1])


def both(model, rows, expected, **how):
    np.testing.assert_allclose(model.fit(rows[0]).score(rows[1]), expected, **(close | how))


def test_mean_distance(rows, scaled):
    both(MeanDistance(), rows, np.linalg.norm(scaled[1], axis=1))


@pytest.mark.parametrize("k", [1, 5, 150])
def test_nearest_neighbours(rows, scaled, k):
    u, v = scaled
    distances = np.sort(np.linalg.norm(v[:, None] - u, axis=2), axis=1)[:, :k]
    both(KNearestNeighbors(k), rows, distances[:, -1])
    both(KNearestNeighbors(k, distance="mean"), rows, distances.mean(1))
    by_hand = neighbors.NearestNeighbors(n_neighbors=k).fit(u).kneighbors(v)[0]
    both(KNearestNeighbors(k), rows, by_hand[:, -1], atol=1e-6)  # which may multiply matrices, and then rounds


def test_distances_to_copies_of_rows_far_from_the_origin_are_zero():
    x = np.random.default_rng(0).normal(size=(80, 30)) + 1e6
    assert KNearestNeighbors(1, scaling="none").fit(x).score(x).tolist() == [0.0] * 80
    assert KMeansDistance(80, scaling="none").fit(np.round(x)).score(np.round(x)).max() == 0
    assert DBSCANDistance(1.0, 1, scaling="none").fit(x).score(x).tolist() == [0.0] * 80


@pytest.mark.parametrize("features", [4, 20])
@pytest.mark.parametrize("origin", [1e8, 1.7e9])
def test_the_nearest_of_rows_far_from_the_origin_are_the_nearest(features, origin):
    x = np.random.default_rng(0).uniform(0, 10, size=(150, features))
    x[:, 0] = origin + 360 * x[:, 0]
    x[0] = 1e3 * origin  # which a mean would follow
    distances = np.sort(cdist(x[100:], x[:100]), axis=1)
    for k in (1, 5):
        model = KNearestNeighbors(k, scaling="none").fit(x[:100])
        np.testing.assert_allclose(model.score(x[100:]), distances[:, k - 1], **close)


@pytest.mark.parametrize("k", [5, 20, 500])
def test_the_local_outlier_factor(rows, scaled, k):
    by_hand = neighbors.LocalOutlierFactor(min(k, 149), novelty=True).fit(scaled[0])
    # of rows whose neighbours are copies the density is infinite but for a small constant, and so is what rounds
    both(LocalOutlierFactor(k), rows, -by_hand.score_samples(scaled[1]), rtol=1e-6)


@pytest.mark.parametrize("most", [256, 40])
def test_the_isolation_forest(rows, scaled, most):
    for pair, scaling in ((rows, "none"), (scaled, "standard")):
        x, new = (part.astype(np.float32) for part in pair)  # which is what trees compare
        by_hand = ensemble.IsolationForest(n_estimators=50, max_samples=min(most, 150), random_state=3).fit(x)
        both(IsolationForest(50, most, seed=3, scaling=scaling), rows, -by_hand.score_samples(new))


def test_an_isolation_forest_sees_a_narrow_feature_far_from_zero():
    rng = np.random.default_rng(0)
    x, far = rng.normal(size=(400, 2)), rng.normal(size=(50, 2))
    far[:, 1] += 8
    x[:, 1], far[:, 1] = 1.6e12 + 1e3 * x[:, 1], 1.6e12 + 1e3 * far[:, 1]
    model = IsolationForest().fit(x[:200])
    assert model.score(far).min() > np.quantile(model.score(x[200:]), 0.95)


@pytest.mark.parametrize("nu", [0.1, 0.5])
def test_the_one_class_support_vector_machine(rows, scaled, nu):
    by_hand = svm.OneClassSVM(nu=nu, gamma="scale").fit(scaled[0])
    both(OneClassSVM(nu), rows, -by_hand.decision_function(scaled[1]), atol=1e-9)
    by_hand = svm.OneClassSVM(nu=nu, gamma=0.3).fit(scaled[0])
    both(OneClassSVM(nu, 0.3, method="exact"), rows, -by_hand.decision_function(scaled[1]), atol=1e-9)


@pytest.mark.parametrize("components", [30, 500])
def test_the_approximated_support_vector_machine(rows, scaled, components):
    u, v = scaled
    kernel = kernel_approximation.Nystroem(gamma=0.1, n_components=min(components, len(u)), random_state=2).fit(u)
    line = linear_model.SGDOneClassSVM(nu=0.2, random_state=2).fit(kernel.transform(u))
    model = OneClassSVM(0.2, 0.1, method="nystroem", n_components=components, seed=2)
    both(model, rows, -line.decision_function(kernel.transform(v)), atol=1e-7)


def test_a_support_vector_machine_leaves_at_most_nu_of_the_training_rows_outside(rows):
    score = OneClassSVM(0.2).fit(rows[0]).score(rows[0])
    assert (score > 1e-3).mean() <= 0.2 <= (score > -1e-3).mean()


def test_k_means(rows, scaled):
    centres = cluster.KMeans(7, n_init=1, random_state=1).fit(scaled[0]).cluster_centers_
    both(KMeansDistance(7, 1), rows, np.linalg.norm(scaled[1][:, None] - centres, axis=2).min(1))


def test_k_means_of_fewer_distinct_rows_than_centres_has_them_for_centres():
    distinct = np.array([[0.0, 0.0], [0.0, 4.0], [8.0, 0.0]])
    model = KMeansDistance(20, scaling="none").fit(np.repeat(distinct, 1000, axis=0))
    np.testing.assert_allclose(model.score(np.concatenate([distinct, [[3.0, 0.0]]])), [0, 0, 0, 3], atol=1e-12)


@pytest.mark.parametrize("least", [1, 5, 20])
def test_core_samples_and_membership_are_those_of_dbscan(rows, scaled, least):
    u, v = scaled
    eps = float(np.quantile(np.linalg.norm(u[:, None] - u, axis=2), 0.15))
    found = cluster.DBSCAN(eps, min_samples=least).fit(u)
    model = DBSCANDistance(eps, least).fit(rows[0])
    np.testing.assert_allclose(model.points_, u[found.core_sample_indices_], **close)
    # a row it was fitted on is in a cluster where it lies within eps of a core sample, else it is noise
    assert ((model.score(rows[0]) <= eps) == (found.labels_ >= 0)).all()
    near = (np.linalg.norm(v[:, None] - u[found.core_sample_indices_], axis=2) <= eps).any(1)
    assert ((model.score(rows[1]) <= eps) == near).all()
    assert len(model.points_) == 150 if least == 1 else 0 < len(model.points_) < 150


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_without_a_radius_dbscan_takes_the_smallest_that_makes_a_share_of_the_rows_core(rows, share):
    model = DBSCANDistance(core_share=share).fit(rows[0])
    assert len(model.points_) >= share * 150
    smaller = DBSCANDistance(float(model.radius_[0]) * (1 - 1e-12)).fit(rows[0])
    assert len(smaller.points_) < share * 150


def test_a_radius_in_which_nothing_is_core_is_refused(rows):
    with pytest.raises(ValueError, match="no training row has 5 rows within eps=1e-09: raise eps"):
        DBSCANDistance(1e-9).fit(rows[0])


@pytest.mark.parametrize(("kind", "by_hand"), [("full", "full"), ("diagonal", "diag")])
def test_the_mixture_of_gaussians(rows, scaled, kind, by_hand):
    found = mixture.GaussianMixture(3, covariance_type=by_hand, reg_covar=1e-3, random_state=1).fit(scaled[0])
    both(GaussianMixture(3, kind, seed=1), rows, -found.score_samples(scaled[1]), rtol=1e-6)


def test_a_mixture_has_at_most_a_component_for_ten_rows(rows):
    assert len(GaussianMixture(50).fit(rows[0][:40]).means_) == 4


@pytest.mark.parametrize("kind", ["full", "shrunk", "robust", "diagonal"])
def test_the_multivariate_gaussian(rows, scaled, kind):
    u, v = scaled
    found = {
        "full": covariance.EmpiricalCovariance(),
        "shrunk": covariance.LedoitWolf(),
        "robust": covariance.MinCovDet(random_state=0),
        "diagonal": covariance.EmpiricalCovariance(),
    }[kind].fit(u)
    spread = found.covariance_ * (np.eye(len(u[0])) if kind == "diagonal" else 1)
    tolerance = 1e-6 / np.linalg.eigvalsh(spread)[0]  # what the ridge adds to the smallest variance
    found.precision_ = np.linalg.inv(spread)
    both(MultivariateGaussian(kind), rows, found.mahalanobis(v), rtol=2 * tolerance)
    density = stats.multivariate_normal(found.location_, spread)
    both(MultivariateGaussian(kind, density=True), rows, -density.logpdf(v), rtol=2 * tolerance, atol=tolerance)


def test_components_of_a_distance_are_those_most_like_the_values(rows, scaled):
    """P^-1/2 V^-1/2 (u - mean), with P^-1/2 by eigenvalues."""
    u, v = scaled
    parts = MultivariateGaussian("full").fit(rows[0]).contributions(rows[1])
    deviation = u.std(0)
    values, vectors = np.linalg.eigh(np.corrcoef(u.T))
    by_hand = (v - u.mean(0)) / deviation @ ((vectors / np.sqrt(values)) @ vectors.T)
    np.testing.assert_allclose(parts, by_hand**2, rtol=0.02, atol=1e-3)


def test_steps_of_a_window_add_what_the_steps_before_do_not_explain():
    """The Mahalanobis distance of each step less its regression on those before; the scale of its channels aside."""
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(900, 4, 3)), axis=1) @ rng.normal(size=(3, 3))
    model = MultivariateGaussian("full").fit(x)
    parts, flat = model.contributions(x), model.scaled(x)
    for step in range(4):
        own, before = flat[:, 3 * step : 3 * step + 3], np.c_[np.ones(900), flat[:, : 3 * step]]
        left = own - before @ np.linalg.lstsq(before, own, rcond=None)[0]
        by_hand = np.einsum("nc,cd,nd->n", left, np.linalg.inv(left.T @ left / 900), left)
        np.testing.assert_allclose(parts[:, step].sum(1), by_hand, rtol=0.01, atol=0.01)


def test_directions_in_which_training_rows_never_differ_do_not_decide_by_rounding():
    x = np.repeat(np.random.default_rng(0).normal(size=(100, 3)), 2, axis=1)
    off = x[:5].copy()
    off[:, 0] += 1e-9
    model = MultivariateGaussian("full").fit(x)
    np.testing.assert_allclose(model.score(off), model.score(x[:5]), rtol=1e-3)


@pytest.mark.parametrize("kind", ["full", "diagonal", "shrunk", "robust"])
def test_a_gaussian_keeps_the_unit_of_a_feature_that_never_varies(rows, kind):
    x = np.column_stack([rows[0][:, :4], np.full(150, 0.1)])
    model, moved = MultivariateGaussian(kind).fit(x), x + np.array([0, 0, 0, 0, 2.0])
    np.testing.assert_allclose(model.score(moved) - model.score(x), 4.0, rtol=1e-6)


@pytest.mark.parametrize("width", [None, 0.7])
def test_the_kernel_density(rows, scaled, width):
    u, v = scaled
    h = width or len(u) ** (-1 / (u.shape[1] + 4))
    each = [stats.multivariate_normal(row, h**2 * np.eye(len(row))).logpdf(v) for row in u]
    both(KernelDensity(width), rows, np.log(len(u)) - logsumexp(each, axis=0))
    near = u[:20] + 0.1  # far out the tree of scikit-learn stops at a bound
    by_hand = neighbors.KernelDensity(bandwidth=h).fit(u).score_samples(near)
    np.testing.assert_allclose(KernelDensity(width, scaling="none").fit(u).score(near), -by_hand, rtol=1e-6)


def test_a_kernel_density_keeps_a_random_sample_of_many_rows(rows):
    model = KernelDensity(max_rows=50).fit(rows[0])
    kept = model.points_ * model.scale_ + model.shift_
    assert len(kept) == 50
    assert (np.abs(kept[:, None] - rows[0]).max(2).min(1) < 1e-9).all()
    assert not np.array_equal(model.points_, KernelDensity(max_rows=50, seed=1).fit(rows[0]).points_)


@pytest.mark.parametrize("components", [1, 3, 0.6, 0.99])
def test_the_residual_of_principal_components(rows, scaled, components):
    pca = decomposition.PCA(components, svd_solver="full").fit(scaled[0])
    rebuilt = pca.inverse_transform(pca.transform(scaled[1]))
    model = PCAResidual(components)
    both(model, rows, np.square(scaled[1] - rebuilt).sum(1), rtol=1e-6)
    assert len(model.components_) == pca.n_components_


def test_at_least_one_direction_of_the_data_is_left_out(rows, scaled):
    assert len(PCAResidual(1000).fit(rows[0]).components_) == rows[0].shape[1] - 1
    assert len(PCAResidual(10).fit(np.repeat(rows[0][:, :1], 5, axis=1)).components_) == 0
    both(PCAResidual(), [part[:, :1] for part in rows], np.square(scaled[1][:, 0]))


@pytest.mark.parametrize("components", [2, 3, 5, 9, 10])
@pytest.mark.parametrize("n", [60, 400])
def test_of_rows_in_a_subspace_a_direction_is_left_out_however_many_are_asked_for(components, n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 10))
    model = PCAResidual(components).fit(x)
    assert len(model.components_) == 2
    half = np.quantile(model.score(x), 0.5)
    np.testing.assert_allclose(model.score(x.astype(np.float32)), model.score(x), rtol=1e-3, atol=1e-3 * half)


def test_components_of_large_data_are_those_that_were_asked_for():
    """Found by random projections, which depend on how many are asked for."""
    x = np.random.default_rng(0).normal(size=(600, 200))
    pca = decomposition.PCA(20, random_state=0, svd_solver="randomized").fit(x)
    model = PCAResidual(20, scaling="none").fit(x)
    assert model.components_.tobytes() == pca.components_.tobytes()
    thin = x[:, :5] @ np.random.default_rng(1).normal(size=(5, 200))
    assert len(PCAResidual(5, scaling="none").fit(thin).components_) == 4
    assert len(PCAResidual(20, scaling="none").fit(thin).components_) == 4
