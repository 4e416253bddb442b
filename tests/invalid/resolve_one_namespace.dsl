param N: int = 4
op f(Q: f32[N, D], D: int, x: f32[M], M: f32[D]) -> O: f32[M], Q: f32[M]
{
    let O = 2
    let W = 1
    let W = 2
    index D in 0 .. M
    O[x] = Q[0, x]
    Q[m] = x[m]
}
