"""The benchmark's scene in Warp: forward in place, and its tape with one set of arrays per step."""

# mypy: ignore-errors
import numpy as np
import warp as wp

wp.config.quiet = True


@wp.struct
class Constants:
    inv_dx: float
    dx: float
    dt: float
    mass: float
    volume: float
    nu: float
    cells: int
    corotated: int


@wp.func
def spline(f: wp.vec3):
    one = wp.vec3(1.0, 1.0, 1.0)
    a = 1.5 * one - f
    b = f - one
    c = f - 0.5 * one
    return wp.matrix_from_rows(0.5 * wp.cw_mul(a, a), 0.75 * one - wp.cw_mul(b, b), 0.5 * wp.cw_mul(c, c))


@wp.func
def kirchhoff(F: wp.mat33, mu: float, lam: float, corotated: int):
    eye = wp.identity(n=3, dtype=float)
    J = wp.determinant(F)
    tau = wp.mat33()
    if corotated == 1:
        U = wp.mat33()
        s = wp.vec3()
        V = wp.mat33()
        wp.svd3(F, U, s, V)
        tau = 2.0 * mu * (F - U * wp.transpose(V)) * wp.transpose(F) + eye * (lam * J * (J - 1.0))
    else:
        tau = mu * (F * wp.transpose(F) - eye) + eye * (lam * wp.log(J))
    return tau


@wp.kernel
def particles_to_grid(
    k: Constants,
    x: wp.array(dtype=wp.vec3),
    v: wp.array(dtype=wp.vec3),
    C: wp.array(dtype=wp.mat33),
    F: wp.array(dtype=wp.mat33),
    F_new: wp.array(dtype=wp.mat33),
    E: wp.array(dtype=float),
    momentum: wp.array3d(dtype=wp.vec3),
    mass: wp.array3d(dtype=float),
):
    p = wp.tid()
    X = x[p] * k.inv_dx
    i = int(X[0] - 0.5)
    j = int(X[1] - 0.5)
    l = int(X[2] - 0.5)
    f = X - wp.vec3(float(i), float(j), float(l))
    w = spline(f)
    grown = (wp.identity(n=3, dtype=float) + k.dt * C[p]) * F[p]
    F_new[p] = grown
    mu = E[p] / (2.0 * (1.0 + k.nu))
    lam = E[p] * k.nu / ((1.0 + k.nu) * (1.0 - 2.0 * k.nu))
    tau = kirchhoff(grown, mu, lam, k.corotated)
    affine = (-k.dt * k.volume * 4.0 * k.inv_dx * k.inv_dx) * tau + k.mass * C[p]
    for a in range(3):
        for b in range(3):
            for c in range(3):
                d = (wp.vec3(float(a), float(b), float(c)) - f) * k.dx
                W = w[a, 0] * w[b, 1] * w[c, 2]
                wp.atomic_add(momentum, i + a, j + b, l + c, W * (k.mass * v[p] + affine * d))
                wp.atomic_add(mass, i + a, j + b, l + c, W * k.mass)


@wp.kernel
def update_grid(
    k: Constants,
    momentum: wp.array3d(dtype=wp.vec3),
    mass: wp.array3d(dtype=float),
    velocity: wp.array3d(dtype=wp.vec3),
):
    a, b, c = wp.tid()
    m = mass[a, b, c]
    if m > 1.0e-10 * k.mass:
        u = momentum[a, b, c] / m
        ux = u[0]
        uy = u[1] - k.dt * 9.8
        uz = u[2]
        n = k.cells - 4
        if a <= 3:
            ux = wp.max(ux, 0.0)
        if b <= 3:
            uy = wp.max(uy, 0.0)
        if c <= 3:
            uz = wp.max(uz, 0.0)
        if a >= n:
            ux = wp.min(ux, 0.0)
        if b >= n:
            uy = wp.min(uy, 0.0)
        if c >= n:
            uz = wp.min(uz, 0.0)
        velocity[a, b, c] = wp.vec3(ux, uy, uz)


@wp.kernel
def grid_to_particles(
    k: Constants,
    x: wp.array(dtype=wp.vec3),
    velocity: wp.array3d(dtype=wp.vec3),
    x_new: wp.array(dtype=wp.vec3),
    v_new: wp.array(dtype=wp.vec3),
    C_new: wp.array(dtype=wp.mat33),
):
    p = wp.tid()
    X = x[p] * k.inv_dx
    i = int(X[0] - 0.5)
    j = int(X[1] - 0.5)
    l = int(X[2] - 0.5)
    f = X - wp.vec3(float(i), float(j), float(l))
    w = spline(f)
    v = wp.vec3()
    C = wp.mat33()
    for a in range(3):
        for b in range(3):
            for c in range(3):
                d = wp.vec3(float(a), float(b), float(c)) - f
                W = w[a, 0] * w[b, 1] * w[c, 2]
                g = velocity[i + a, j + b, l + c]
                v += W * g
                C += wp.outer(g, d) * (W * 4.0 * k.inv_dx)
    v_new[p] = v
    C_new[p] = C
    x_new[p] = x[p] + k.dt * v


@wp.kernel
def scale_stiffness(log_E: wp.array(dtype=float), E0: float, E: wp.array(dtype=float)):
    p = wp.tid()
    E[p] = E0 * wp.exp(log_E[p])


@wp.kernel
def squared_distance(x: wp.array(dtype=wp.vec3), start: wp.array(dtype=wp.vec3), n: float, loss: wp.array(dtype=float)):
    p = wp.tid()
    d = x[p] - start[p] - wp.vec3(0.01, 0.0, -0.01)
    wp.atomic_add(loss, 0, 100.0 * wp.dot(d, d) * (1.0 + start[p][0]) / n)


class WarpEngine:
    """The scene behind the interface of a worker; arrays for a tape are made when a gradient is first asked for."""

    def __init__(self, law, x, v, dt, cells, steps, material):
        wp.init()
        wp.set_device("cpu")
        self.E0, nu, density = material
        self.x0, self.v0, self.cells, self.steps, self.n = x, v, cells, steps, len(x)
        k = Constants()
        k.inv_dx, k.dx, k.dt, k.nu = float(cells), 1.0 / cells, dt, nu
        k.volume = (1.0 / cells) ** 3 / 8
        k.mass, k.cells, k.corotated = density * k.volume, cells, int(law == "fc")
        self.k = k
        self.states = None

    def arrays(self, count, gradient):
        def zeros(shape, dtype):
            return wp.zeros(shape, dtype=dtype, requires_grad=gradient)

        shape = (self.cells,) * 3
        eye = np.tile(np.eye(3, dtype=np.float32), (self.n, 1, 1))
        particles = [[zeros(self.n, t) for t in (wp.vec3, wp.vec3, wp.mat33, wp.mat33)] for _ in range(count + 1)]
        particles[0][0].assign(self.x0)
        particles[0][1].assign(self.v0)
        particles[0][3].assign(eye)
        grids = [[zeros(shape, wp.vec3), zeros(shape, float), zeros(shape, wp.vec3)] for _ in range(count)]
        return particles, grids

    def step(self, now, then, grid, E):
        (x, v, C, F), (x1, v1, C1, F1), (momentum, mass, velocity) = now, then, grid
        wp.launch(particles_to_grid, self.n, [self.k, x, v, C, F, F1, E, momentum, mass])
        wp.launch(update_grid, (self.cells,) * 3, [self.k, momentum, mass, velocity])
        wp.launch(grid_to_particles, self.n, [self.k, x, velocity, x1, v1, C1])

    def forward(self):
        if self.states is None:
            self.states = self.arrays(1, False)
            self.E = wp.full(self.n, self.E0, dtype=float)
        (state, _), (grid,) = self.states
        state[0].assign(self.x0)
        state[1].assign(self.v0)
        state[2].zero_()
        state[3].assign(np.tile(np.eye(3, dtype=np.float32), (self.n, 1, 1)))
        for _ in range(self.steps):
            for a in grid:
                a.zero_()
            self.step(state, state, grid, self.E)
        return state[0].numpy().mean(0).tolist()

    def gradient(self):
        if self.states is None:
            self.states = self.arrays(self.steps, True)
            self.log_E = wp.zeros(self.n, dtype=float, requires_grad=True)
            self.E = wp.zeros(self.n, dtype=float, requires_grad=True)
            self.loss = wp.zeros(1, dtype=float, requires_grad=True)
            self.start = wp.array(self.x0, dtype=wp.vec3)
        particles, grids = self.states
        self.loss.zero_()
        for grid in grids:
            for a in grid:
                a.zero_()
        with wp.Tape() as tape:
            wp.launch(scale_stiffness, self.n, [self.log_E, self.E0, self.E])
            for now, then, grid in zip(particles, particles[1:], grids):
                self.step(now, then, grid, self.E)
            wp.launch(squared_distance, self.n, [particles[-1][0], self.start, float(self.n), self.loss])
        tape.backward(self.loss)
        result = [float(self.loss.numpy()[0]), float(self.log_E.grad.numpy().sum())]
        result += particles[0][1].grad.numpy().sum(0).tolist()
        tape.zero()
        return result
