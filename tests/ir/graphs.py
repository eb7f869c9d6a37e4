"""Small graphs for the tests of the IR, in its text form."""

MLP = """\
graph mlp(x: data f32[n, 4], w: parameter f32[4, 3], layer.0.b: parameter f32[3]) where n <= 64 {
  %0: f32[n, 3] = matmul x, w
  %1: f32[n, 3] = add %0, layer.0.b
  %2: f32[4, 3] = matmul x, %1 {transpose_a = true}
  %3: f32[3] = reduce_sum %1 {axes = [0]}
  return y = %1, w <- %2, sum = layer.0.b <- %3
}"""

LOOP = """\
graph loop(h: f64[2], x: f64[t, 2]) {
  %0: f64[2], %1: f64[t, 2] = scan h, x {carries = 1, reverse = true} body f(h: f64[2], x: f64[2]) {
    %0: f64[2] = add h, x
    %1: f64[] = size {dim = t}
    %2: f64[2] = multiply %0, %1
    return h = %2, y = %0
  }
  %2: f64[t, 2] = exp %1
  return last = %0, all = %2
}"""
