op f(x: f32[N, N]) -> y: f32[N, N]
{
    y[i, i] = sum[j, j](x[i, j])
}
