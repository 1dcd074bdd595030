"""The two transfers of moving least squares MPM in Taichi (Hu et al., 2018): APIC with quadratic B-splines."""

# mypy: ignore-errors
import taichi as ti


@ti.func
def stencil(x, inv):
    """Base node, position relative to it in cells, and the weights of its three offsets along each axis."""
    base = ti.cast(x * inv - 0.5, ti.i32)
    f = x * inv - ti.cast(base, ti.f32)
    return base, f, ti.Matrix.rows([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1) ** 2, 0.5 * (f - 0.5) ** 2])


@ti.func
def neo_hookean(G, mu, lam):
    """Kirchhoff stress mu (F F^T - I) + lam log J I."""
    one = ti.Matrix.identity(ti.f32, 3)
    return mu * (G @ G.transpose() - one) + one * (lam * ti.log(G.determinant()))


@ti.func
def scatter(g: ti.template(), m: ti.template(), x, v, A, mass, inv):
    """Adds a particle's momentum, with its affine part A, and its mass to the grid."""
    base, f, w = stencil(x, inv)
    dx = 1.0 / inv
    for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
        o = ti.Vector([i, j, k])
        weight = w[i, 0] * w[j, 1] * w[k, 2]
        g[base + o] += weight * (mass * v + A @ ((ti.cast(o, ti.f32) - f) * dx))
        m[base + o] += weight * mass


@ti.func
def gather(g: ti.template(), x, inv):
    """Velocity and velocity gradient at a particle."""
    base, f, w = stencil(x, inv)
    v, C = ti.Vector.zero(ti.f32, 3), ti.Matrix.zero(ti.f32, 3, 3)
    for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
        o = ti.Vector([i, j, k])
        weight = w[i, 0] * w[j, 1] * w[k, 2]
        v += weight * g[base + o]
        C += 4 * inv * weight * g[base + o].outer_product(ti.cast(o, ti.f32) - f)
    return v, C
