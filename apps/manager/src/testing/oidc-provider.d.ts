/** As much of the package's types as our test provider needs. */
declare module "oidc-provider" {
  export default class Provider {
    constructor(issuer: string, configuration: object);
    listen(port: number, host: string, ready: () => void): void;
  }
}
