op f(x: f32[N], W: int) -> y: f32[N]
    where N + 1, y[i] >= 0, i < W, N < N, x[i] >= M, x[i] == x[j] or k < 2
{
    y[i] = x[i]
}
