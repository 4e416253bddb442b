use "nowhere.dsl"
use "resolve_use.dsl"
use "."
op f(x: f32[N]) -> y: f32[N]
{
    y = window(x)
}
