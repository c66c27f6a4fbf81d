/* Trains @STEPS@ steps and compares every loss with PyTorch's, of the same policy on the same images.

   Exit status: 0 where every loss agrees, 1 otherwise. A loss may differ by 1e-5, and by more where PyTorch itself does
   when its weights change in their last digit: training makes more of such a difference from step to step. */
#include <math.h>

#include "@NAME@_example.h"
#include "console.h"

static const float expected[] = {
@LOSSES@
};
static const float tolerances[] = {
@TOLERANCES@
};
#define IMAGES ((int)(sizeof expected / sizeof expected[0]))

int main(void)
{
    float worst = 0.0f;
    int wrong = 0;
    @NAME@_init();
    for (int n = 0; n < IMAGES; n++) {
        float loss = 0.0f;
        const @NAME@_status status = @NAME@_example_step(n % @PREFIX@_EXAMPLES, &loss);
        const float difference = fabsf(loss - expected[n]);
        if (status != @PREFIX@_OK || !(difference <= tolerances[n]))
            wrong++;
        if (!(difference <= worst))
            worst = difference;
        console_text("image ");
        console_integer(n);
        console_text(": loss ");
        console_number(loss);
        console_text(", PyTorch ");
        console_number(expected[n]);
        console_text("\n");
    }
    console_text(wrong == 0 ? "pass" : "FAIL");
    console_text(": @NAME@, worst difference ");
    console_number(worst);
    console_text("\n");
    return wrong != 0;
}
