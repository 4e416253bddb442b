op f(x: f32[M, N], len: i32[M]) -> lse: f32[M], top: f32[M], few: f32[M], full: f32[M], safe: f32[M]
{
    n[i] = sum[j where j < len[i]](1)
    L[i] = logsumexp[j where j < len[i]](x[i, j])
    lse[i] = 2 * L[i] + 1
    top[i] = max[j where x[i, j] > 0](x[i, j])
    few[i] = x[i, 0] where n[i] < 4
    full[i] = max[j](x[i, j])
    safe[i] = default(L[i], -inf)
}
