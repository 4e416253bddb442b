op f(x: f32[M, N]) -> y: f32[M]
{
    a[i, j] = x[i]
    b[i] = a[i, 0, 0]
    y[i, j] = b[i]
}
