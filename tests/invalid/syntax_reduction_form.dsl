op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    a[i] = sum(x[i])
    b[i] = sum[k] x[k]
    z[i] = softmax x
}
