op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    a[i] = sum[k < i](x[k])
    b[i] = sum[0](x[i])
    z[i] = sum[](x[i])
}
