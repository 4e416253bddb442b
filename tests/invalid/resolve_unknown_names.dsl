# Several at a time, each with what was probably meant.
op f(Query: f32[Rows, Depth], gain: f32 = 1) -> O: f32[Rows]
{
    let Half = Detph // 2
    O[r] = sum[d where d < Half](Qeury[r, d] * gian * sqrtt(Query[r, d]))
}
