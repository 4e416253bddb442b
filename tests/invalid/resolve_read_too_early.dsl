op f(x: f32[N]) -> y: f32[N]
{
    a[i] = b[i] where i < 2
    b[i] = 2 * x[i]
    a[i] = a[0] where i >= 2
    y[i] = y[i] + a[i]
}
