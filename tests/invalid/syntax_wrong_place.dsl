op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    state S[d]: f32 = 0
    scan t in 0 .. N {
        scan u in 0 .. N {
            z[u] = x[u]
        }
        A = g(x)
        schedule { tile q 64; }
        z[t] = x[t]
    }
}
