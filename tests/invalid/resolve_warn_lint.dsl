op f(x: f32[N, N], v: f32[N], w: f32[N, D]) -> y: f32[N], z: f32[N], O: f32[N, D]
{
    P[q, k] = softmax[k where k <= q and q >= k](x[q, k])
    y[t] = sum[j where j <= t](exp(v[j] - v[t]))
    z[t] = sum[j where j <= t](v[j])
    O[q, e] = sum[k](P[q, k] * w[k, e])
    schedule { place O tpc; }
}
