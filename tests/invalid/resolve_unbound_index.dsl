op f(x: f32[M, N]) -> y: f32[M]
{
    y[i] = x[i, j] + sum[j](x[i, j]) + softmax[j](x[i, j])
}
