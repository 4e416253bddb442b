op f(x: f32[N]) -> y: f32[N]
{
    index n in 0 .. N
    index k in 0 .. N
    scan t in 0 .. N {
        state m[]: f32 = 0
        state v[n]: f32 = 0
        m[] := max(m[], x[t])
        v[n] := max[k](v[k] + x[t])
        y[t] = m[] + v[t]
    }
}
