op f(x: f32[N], s: bf16, W: int = N / 2, V: int = X, U: f32 = W, x: int) -> y: f32[N]
{
    y[i] = s * x[i] + U
}
