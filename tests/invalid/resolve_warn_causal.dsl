op f(x: f32[M, N], v: f32[N]) -> y: f32[M]
{
    P[q, k] = softmax[k where q - 64 < k <= q](x[q, k])
    y[q] = sum[k where k <= q](P[q, k] * v[k])
}
