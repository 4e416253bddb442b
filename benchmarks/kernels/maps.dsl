# Operations without reductions, each a kernel that Habana publishes by hand.
dtype T in bf16, f32

op division(X: f32[M, N], Y: f32[M, N]) -> Z: f32[M, N]
{
    Z[m,n] = X[m,n] / Y[m,n]
}

op widen(X: bf16[M, N]) -> Y: f32[M, N]
{
    Y[m,n] = X[m,n]
}

op narrow(X: f32[M, N]) -> Y: bf16[M, N]
{
    Y[m,n] = X[m,n]
}

op rectify(X: T[M, N]) -> Y: T[M, N]
{
    Y[m,n] = relu(X[m,n])
}

op leaky(X: f32[M, N]) -> Y: f32[M, N]
{
    Y[m,n] = select(X[m,n] > 0, X[m,n], 0.1 * X[m,n])
}

op sums(X: f32[M, N], Y: f32[M, N]) -> Z: f32[M, N]
{
    Z[m,n] = X[m,n] + Y[m,n]
}

op batch_norm(X: f32[M, N], scale: f32[N], shift: f32[N]) -> Y: f32[M, N]
{
    Y[m,n] = X[m,n] * scale[n] + shift[n]
}

check odd { M = 7, N = 129 }
check wide { M = 63, N = 296 }
check one { M = 1, N = 1 }
