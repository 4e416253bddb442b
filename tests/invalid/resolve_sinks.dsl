op f(x: f32[M, N], s: f32[N]) -> y: f32[M, N]
{
    y[i, j] = softmax[j sink s[j]](x[i, j]) + sum[j sink 1](x[i, j]) + rank[j sink 1](x[i, j])
}
