op f(x: f32[N]) -> y: f32[N], last: f32[]
{
    scan t in 0 .. N {
        state s[]: f32 = 0
        state t2[t]: f32 = 0
        state p[]: bool = 1 < 2
        state u[]: f32 = x[t]
        s[] = s[] + x[t]
        a[] := 2
        y[t] = s[]
        last[] = s[]
    }
    scan r in 0 .. N {
        s[] := 2 * s[]
    }
    s[] = 0
}
