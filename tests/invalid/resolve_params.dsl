param a: bf16 = 1
param b: int = 0.5
param c: f32 = d
param e: int = 7 // (3 - 3)
param a: int = 2
param g: f32 = sqrt(0 - 1)

op f(x: f32[N]) -> y: f32[N]
{
    y[i] = x[i] * b
}
