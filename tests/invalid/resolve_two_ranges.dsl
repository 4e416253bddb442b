op f(x: f32[N]) -> y: f32[N]
{
    index t in 0 .. N
    index t in 1 .. N
    scan t in 0 .. N // 2 {
        state s[]: f32 = 0
        s[] := s[] + x[t]
        y[t] = s[]
    }
}
