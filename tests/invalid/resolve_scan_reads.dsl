op f(x: f32[N]) -> y: f32[N], z: f32[N]
{
    b[] = s[]
    scan t in 0 .. N {
        state s[]: f32 = 0
        state r[]: f32 = s[]
        tmp[] = x[t] * s[]
        s[] := s[] + tmp[]
        y[t] = s[] + y[t] + late[]
        w[t] = x[t]
        z[t] = w[t] + w[t - 1] + w[0]
        late[] = 1
    }
    c[] = tmp[]
}
