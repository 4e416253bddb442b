op f(x: f32[M], z: f32[N]) -> y: f32[N]
{
    a[i] = 2 * x[i]
    y[j] = a[j] + z[j]
}
