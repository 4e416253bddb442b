op f(x: f32[N]) -> y: f32[N]
{
    scan t in 0 .. N {
        state s[]: f32 = 0
        state r[]: f32 = 0
        tmp[] = s[] + x[t]
        half[]: bf16 = s[]
        s[] := s[] * r[]
        s[] := 1 / s[]
        s[] := exp(s[])
        s[] := bf16(s[])
        s[] := default(s[], 0)
        s[] := select(s[] > 0, s[], 0)
        s[] := s[] + x[t] where s[] < 1
        r[] := tmp[] * tmp[]
        r[] := half[]
        r[] := sum[k where s[] < k](x[k])
        r[] := select(x[t] > 0, tmp[], -s[]) + 2 * r[] / x[t]
        y[t] = exp(s[] * r[])
    }
}
