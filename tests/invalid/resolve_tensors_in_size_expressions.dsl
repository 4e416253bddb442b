op f(x: f32[N], len: i32[N], W: int = len[0]) -> y: f32[N + len[0]]
{
    let total = sum[n](len[n])
    index k in 0 .. len[0]
    index j in n .. N
    y[n] = x[k] + x[j]
}
